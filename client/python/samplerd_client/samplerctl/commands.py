"""The commands of samplerctl by name, and how one is run. This imports the whole client."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from samplerd_client.samplerctl import bench, distribution, info, sample, top, verify

if TYPE_CHECKING:
    import argparse

__all__ = ["COMMANDS", "run"]


async def _replay(args: argparse.Namespace) -> int:
    """Run ``samplerctl replay``, for which alone the server's reference is loaded."""
    module = importlib.import_module("samplerd_client.samplerctl.replay")
    status: int = await module.run(args)
    return status


COMMANDS = {
    "sample": sample.run,
    "distribution": distribution.run,
    "info": info.run,
    "top": top.run,
    "bench": bench.run,
    "replay": _replay,
    "verify": verify.run,
}


def run(args: argparse.Namespace) -> int:
    """Run the command that these arguments name; returns its exit status."""
    return asyncio.run(COMMANDS[args.command](args))
