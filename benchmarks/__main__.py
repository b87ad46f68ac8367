"""`python -m benchmarks [NAME ...]`: run benchmarks, show tables, write JSON and pictures."""

from __future__ import annotations

import argparse
import importlib
import inspect
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.load import LoadError
from benchmarks.report import ROOT, Console, machine, text_table, write_json
from benchmarks.servers import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

BENCHMARKS = {
    "served": "throughput of Sample against an empty handler",
    "memory": "resident memory over 200,000 requests",
    "metrics_cost": "what counting costs",
    "kernels": "the samplers by themselves, without a server",
}
"""Modules of this package: each has `run(progress) -> dict`, or `run(progress, *, quick)`, and may have `table(result)`
and a picture in `plots`."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure samplerd. Without a name, everything.",
        epilog="\n".join(f"  {name:14}{text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; see below")
    parser.add_argument("--quick", action="store_true", help="a fast run that shows that all works; no figure to quote")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="folder for JSON and pictures (default: benchmarks/results; build/benchmarks with --quick)",
    )
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if args.output is None:
        args.output = ROOT / ("build/benchmarks" if args.quick else "benchmarks/results")
    return args


def run_one(name: str, module: ModuleType, *, quick: bool, output: Path, progress: Console) -> str:
    """Run one benchmark, write its files, and return its table."""
    progress(f"{name}: {BENCHMARKS[name]}")
    has_quick = "quick" in inspect.signature(module.run).parameters
    result: dict[str, Any] = module.run(progress, quick=quick) if has_quick else module.run(progress)
    progress(f"  wrote {write_json(output, name, result)}")
    try:
        from benchmarks import plots  # noqa: PLC0415  # matplotlib is an extra
    except ModuleNotFoundError as error:
        progress(f"  no picture: {error.name} is missing")
    else:
        if name in plots.PLOTS:
            plots.save(output, name, plots.PLOTS[name](result))
    lines = [f"\n{name}: {BENCHMARKS[name]}"]
    if "note" in result:
        lines.append(f"({result['note']})")
    if hasattr(module, "table"):
        lines += ["", text_table(*module.table(result))]
    return "\n".join(lines)


def main() -> int:
    """Run the command."""
    args = parse_args()
    # `kill` shall end the servers too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    progress = Console()
    about = machine()
    if about["load_average_1m"] > 0.5 * about["cores"]:
        progress(f"this machine is busy (load average {about['load_average_1m']}): expect figures to be off")
    tables = []
    failed = False
    for name in args.names or BENCHMARKS:
        try:
            module = importlib.import_module(f"benchmarks.{name}")
            tables.append(run_one(name, module, quick=args.quick, output=args.output, progress=progress))
        except (LoadError, ServerError, ModuleNotFoundError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name == f"benchmarks.{name}" and not args.names:
                progress(f"skipped {name}: it is not written yet")
                continue
            print(f"{name} failed: {error}", file=sys.stderr)
            failed = True
    packages = ", ".join(f"{package} {version}" for package, version in about["packages"].items() if version)
    print(f"\n{about['cores']} cores of {about['cpu_model']}, {packages}, commit {about['commit'][:12] or 'unknown'}")
    if args.quick:
        print("quick: these figures show that everything runs; do not quote them")
    print("\n".join(tables))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
