"""One server, workers, and doors before one engine: processor time a row, and mean batch."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply
from benchmarks.load import Load, frame, sample_request
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scenarios.workers import await_all
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_024, 32_768)
LOAD = Load(connections=16, streams=8)
"""Many connections, as in the scenario `workers`: the kernel deals them out by chance."""
COUNT = 2
ONE, WORKERS, DOORS = "one server", f"--workers {COUNT}", f"--doors {COUNT}"
FLAGS: dict[str, tuple[str, ...]] = {
    ONE: (),
    WORKERS: ("--workers", str(COUNT)),
    DOORS: ("--doors", str(COUNT)),
}
MOST_CPU, LEAST_BATCH = 1.1, 1.5
NOTE = f"one f32 row a call, on {LOAD.connections} connections of {LOAD.streams} calls; the load has the same cores"


def run(progress: Progress, options: Options) -> Result:
    """Measure the three in turns."""
    plan = QUICK if options.quick else Plan(rounds=9)
    sizes = []
    for transport in options.transports:
        with ExitStack() as stack:
            body = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-"))) / "body"
            servers = {
                name: stack.enter_context(SamplerServer(*flags, transport=transport)) for name, flags in FLAGS.items()
            }
            await_all(servers[WORKERS], COUNT)
            await_all(servers[DOORS], COUNT + 1)
            for vocab_size in VOCAB_SIZES:
                progress(f"{transport}, V = {vocab_size:,}: {', '.join(FLAGS)}")
                request = sample_request(vocab_size)
                body.write_bytes(frame(request.SerializeToString()))
                for server in servers.values():
                    checked_reply(server.port, request)
                subjects = [Subject(name=name, server=server, body=body, load=LOAD) for name, server in servers.items()]
                measured = in_turns(subjects, plan, progress)
                sizes.append(
                    {
                        "transport": transport,
                        "vocab_size": vocab_size,
                        "measured": measured,
                        "rate_ratios": {name: ratio(measured, name, ONE) for name in FLAGS},
                        "cpu_ratio": _ratio(measured, "cpu_us_per_row", DOORS, ONE),
                        "batch_ratio": _ratio(measured, "mean_batch_rows", DOORS, WORKERS),
                        "pss_bytes": {name: server.pss_bytes() for name, server in servers.items()},
                    }
                )
    return {"note": NOTE, "plan": asdict(plan), "sizes": sizes}


def _ratio(measured: Mapping[str, Any], figure: str, subject: str, base: str) -> float:
    """Give the median over the rounds of one subject's figure over another's."""
    pairs = zip(measured[subject]["rounds"], measured[base]["rounds"], strict=True)
    return float(median(ours[figure] / theirs[figure] for ours, theirs in pairs))


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["processes", "rows/s", "of one", "CPU us/row", "batch", "p50 ms", "p99 ms", "PSS MiB"]
    rows = []
    for size in result["sizes"]:
        for name, entry in size["measured"].items():
            rows.append(
                [
                    f"V = {size['vocab_size']:,}, {size['transport']}, {name}",
                    f"{entry['rows_per_s']:,.0f}",
                    f"{size['rate_ratios'][name]:.2f}",
                    f"{entry['cpu_us_per_row']:.0f}",
                    f"{entry['mean_batch_rows']:.1f}",
                    f"{entry['latency_ms']['p50']:.1f}",
                    f"{entry['latency_ms']['p99']:.1f}",
                    f"{size['pss_bytes'][name] / 2**20:,.0f}",
                ]
            )
    return header, rows


def targets(result: Result) -> Sequence[Target]:
    """Hold doors against one server and against as many workers."""
    found = []
    for size in result["sizes"]:
        where = f"V = {size['vocab_size']:,}, {size['transport']}"
        cpu, batch = size["cpu_ratio"], size["batch_ratio"]
        what = f"{where}: processor time a row, {DOORS} over one server"
        found.append(Target(what=what, value=cpu, bound=MOST_CPU, at_most=True))
        found.append(Target(what=f"{where}: mean batch, {DOORS} over {WORKERS}", value=batch, bound=LEAST_BATCH))
    return found


SCENARIO = Scenario(run=run, table=table, targets=targets)
