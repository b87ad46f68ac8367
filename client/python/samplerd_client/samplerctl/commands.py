"""The commands of samplerctl by name, and how one is run. This imports the whole client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from samplerd_client.samplerctl import bench, distribution, info, sample, verify

if TYPE_CHECKING:
    import argparse

__all__ = ["COMMANDS", "run"]

COMMANDS = {
    "sample": sample.run,
    "distribution": distribution.run,
    "info": info.run,
    "bench": bench.run,
    "verify": verify.run,
}


def run(args: argparse.Namespace) -> int:
    """Run the command that these arguments name; returns its exit status."""
    return asyncio.run(COMMANDS[args.command](args))
