"""``samplerctl info``: shows the server's version, device, capabilities and limits."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from samplerd_client.errors import SamplerdError
from samplerd_client.samplerctl import render
from samplerd_client.samplerctl.connection import client_of

if TYPE_CHECKING:
    import argparse

    from samplerd_client.info import ServerInfo

__all__ = ["run"]


async def run(args: argparse.Namespace) -> int:
    """Print the server's description of itself."""
    async with client_of(args) as client:
        info = await client.server_info()
        try:
            health = (await client.health()).name
        except SamplerdError as error:
            health = f"unknown ({error.message})"
    if args.json:
        record = asdict(info) | {"capabilities": sorted(info.capabilities), "health": health}
        record["start_time"] = info.start_time and info.start_time.isoformat()
        sys.stdout.write(json.dumps(record) + "\n")
    else:
        sys.stdout.write(_report(args.server, info, health))
    return 0


def _report(server: str, info: ServerInfo, health: str) -> str:
    named = f" ({info.device_name})" if info.device_name else ""
    rows = [
        ["server", server],
        ["health", health],
        ["version", info.version],
        ["running since", info.start_time.isoformat(sep=" ", timespec="seconds") if info.start_time else "-"],
        ["device", f"{info.device}{named}"],
        [
            "kernel",
            f"{info.kernel}, {info.threads} thread{'s' * (info.threads != 1)}, torch {info.torch_version or '-'}",
        ],
        ["rng", info.rng],
    ]
    for name, value in asdict(info.limits).items():
        text = render.size(value) if name.endswith("_bytes") else render.count(value)
        rows.append([name.replace("_", " "), text])
    width = max(len(row[0]) for row in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    lines.append("")
    lines.append("works here:")
    lines += [f"  {name}" for name in sorted(info.capabilities)]
    return "\n".join(lines) + "\n"
