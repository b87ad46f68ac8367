"""`python -m benchmarks [NAME ...]`: run scenarios, show tables and targets, write JSON and pictures."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from subprocess import SubprocessError
from typing import TYPE_CHECKING

from grpc import RpcError

from benchmarks import history, plots
from benchmarks.load import LoadError
from benchmarks.peers.peer import PEERS
from benchmarks.report import ROOT, Console, machine, text_table, write_json
from benchmarks.scenario import ON_REQUEST, TRANSPORTS, Options, Result, Target, load_scenario, titles
from benchmarks.servers import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = ROOT / "benchmarks" / "results"


class StaleResultError(ValueError):
    """Expected: a stored result lacks what this version shows."""


FAILURES = (LoadError, ServerError, StaleResultError, OSError, SubprocessError, RpcError)
"""What ends a scenario, but not the run: the others' minutes are not lost."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    known = titles()
    width = max(map(len, known)) + 1
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure samplerd. Without a name, everything but {', '.join(sorted(ON_REQUEST))}.",
        epilog="\n".join(f"  {name:{width}}{text}" for name, text in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; see below")
    parser.add_argument("--quick", action="store_true", help="a fast run that shows that all works; no figure to quote")
    parser.add_argument(
        "--transport",
        action="append",
        choices=TRANSPORTS,
        help="measure this transport; repeat for more (default: all)",
    )
    parser.add_argument(
        "--memory-requests",
        type=int,
        default=None,
        metavar="N",
        help="calls that memory is watched over, for each transport (default: 1,000,000; 20,000 with --quick)",
    )
    parser.add_argument(
        "--peer", action="append", choices=list(PEERS), help="measure this peer; repeat for more (default: all)"
    )
    parser.add_argument(
        "--against", type=Path, default=None, metavar="FOLDER", help="idle: compare with the checkout in this folder"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing: show and draw what the folder holds")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="folder for JSON and pictures (default: benchmarks/results; build/benchmarks with --quick)",
    )
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"unknown scenario {', '.join(unknown)}; there are {', '.join(known)}")
    if args.output is None:
        args.output = ROOT / "build/benchmarks" if args.quick else RESULTS
    if not args.names:
        args.names = [name for name in known if args.report or name not in ON_REQUEST]
    args.options = Options(
        quick=args.quick,
        transports=tuple(args.transport or TRANSPORTS),
        memory_requests=args.memory_requests or (20_000 if args.quick else 1_000_000),
        peers=tuple(args.peer or ()),
        against=args.against,
    )
    return args


def measure(name: str, options: Options, output: Path, progress: Console) -> Result:
    """Run one scenario and write its JSON."""
    progress(f"{name}: {titles()[name]}")
    began = time.monotonic()
    result = load_scenario(name).run(progress, options)
    result["took_s"] = round(time.monotonic() - began, 1)
    progress(f"  wrote {write_json(output, name, result)} after {result['took_s']:.0f} s")
    return result


def show(name: str, result: Result, output: Path) -> tuple[str, list[Target]]:
    """Draw one result, and return its table and its targets.

    Raises:
        StaleResultError: it was read from a file of another version.

    """
    scenario = load_scenario(name)
    lines = [f"\n{name}: {titles()[name]}"]
    if "note" in result:
        lines.append(f"({result['note']})")
    try:
        lines += ["", text_table(*scenario.table(result))]
        targets = list(scenario.targets(result))
        drawing = scenario.figure(result) if scenario.figure is not None else None
    except KeyError as error:
        raise StaleResultError(f"the result has no {error}: another version wrote it; measure again") from error
    if drawing is not None:
        plots.save(output, name, drawing)
    return "\n".join(lines), targets


def against_all_runs(name: str, result: Result, targets: list[Target], args: argparse.Namespace) -> list[list[str]]:
    """Give a scenario's rows in the table of targets; a run whose result is stored joins all stored runs."""
    path = RESULTS / history.NAME
    if args.output.resolve().is_relative_to(RESULTS):
        history.record(path, name, result.get("machine", machine()), targets)
    known = history.spreads(path, name)
    return [history.cells(target, known.get(target.what)) for target in targets]


def main() -> int:
    """Run the command."""
    args = parse_args()
    # `kill` shall end the servers too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    progress = Console()
    about = machine()
    if not args.report and about["load_average_1m"] > 0.5 * about["cores"]:
        progress(f"this machine is busy (load average {about['load_average_1m']}): expect figures to be off")
    tables: list[str] = []
    promises: list[list[str]] = []
    failed: list[str] = []
    for name in args.names:
        try:
            if args.report:
                path = args.output / f"{name}.json"
                if not path.exists():
                    continue
                result = json.loads(path.read_text())
            else:
                result = measure(name, args.options, args.output, progress)
            table, targets = show(name, result, args.output)
            promises += against_all_runs(name, result, targets, args)
        except FAILURES as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        if args.report:
            table += f"\n(of {result['machine']['date']}, commit {result['machine']['commit'][:12]})"
        tables.append(table)
    packages = ", ".join(f"{package} {version}" for package, version in about["packages"].items() if version)
    print(f"\n{about['cores']} cores of {about['cpu_model']}, {packages}, commit {about['commit'][:12] or 'unknown'}")
    print("\n".join(tables))
    if promises:
        print("\ntargets\n\n" + text_table(history.HEADER, promises))
        print(
            f"{sum(cells[-1] == 'met' for cells in promises)} of {len(promises)} met, by the median of all stored runs"
        )
    if args.quick:
        print("quick: these figures show that everything runs; do not quote them")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
