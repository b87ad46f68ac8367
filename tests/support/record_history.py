"""Record long histories, one for each fault, and store what they say: ``make history ARGS="--minutes 20"``.

The time is shared among the faults. One that ends the server is tried again and again on a new server. Every law of
`history` is checked, and so is what is left of a server that has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_json
from tests.support.history_faults import FAULTS, record

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "trust"
_SHOWN = 10


async def _repeat(transport: str, name: str, seconds: float) -> dict[str, Any]:
    """Record a fault for some time, on as many servers as that takes; returns sums of their counts."""
    total: Counter[str] = Counter()
    tables: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    end = time.monotonic() + seconds
    while not total or time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            faults, counts = await record(Path(folder), transport, name, max(0.0, end - time.monotonic()))
        wrong += faults
        total["servers"] += 1
        for key, value in counts.items():
            if isinstance(value, dict):
                tables.setdefault(key, Counter()).update(value)
            else:
                total[key] += value
    return {**total, **{key: dict(own) for key, own in tables.items()}, "contradictions": wrong[:_SHOWN]}


async def _record(transport: str, names: Sequence[str], seconds: float) -> dict[str, Any]:
    found = {}
    for name in names:
        found[name] = await _repeat(transport, name, seconds)
        sys.stdout.write(f"{name}: {found[name]}\n")
        sys.stdout.flush()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Record and store; returns 1 if anything contradicts the laws."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.record_history", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="time in all (5)")
    parser.add_argument("--transport", choices=("grpcio", "envoy"), default="grpcio")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="record this one; may be given again (all)")
    parser.add_argument("--note", default="", help="stored with the result: what else the machine did")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    told = {**machine(), "command": "python -m tests.support.record_history " + " ".join(arguments or sys.argv[1:])}
    names = [name for name in options.fault or FAULTS if options.transport in FAULTS[name].transports]
    found = asyncio.run(_record(options.transport, names, options.minutes * 60 / len(names)))
    result = {"benchmark": "history", "machine": told, "note": options.note, "transport": options.transport, **found}
    sys.stdout.write(f"{write_json(options.output, f'history_{options.transport}', result)}\n")
    return int(any(own["contradictions"] for own in found.values()))


if __name__ == "__main__":
    sys.exit(main())
