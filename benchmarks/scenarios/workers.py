"""Rows a second by the number of workers on one port."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply
from benchmarks.load import Load, frame, sample_request
from benchmarks.plots import COLOURS, LABELS, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer, ServerError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO", "await_all"]

VOCAB_SIZES = (1_024, 32_768)
LOAD = Load(connections=16, streams=8)
"""Many connections: the kernel deals them out by chance, and a few would often go to one worker."""
_UP_S = 60.0
NOTE = f"one f32 row a call, on {LOAD.connections} connections of {LOAD.streams} calls; the load has the same cores"


def run(progress: Progress, options: Options) -> Result:
    """Measure one server and teams of workers in turns."""
    plan = QUICK if options.quick else Plan(rounds=7)
    counts = (1, 2) if options.quick else _counts(len(os.sched_getaffinity(0)))
    sizes = []
    for transport in options.transports:
        with ExitStack() as stack:
            body = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-"))) / "body"
            servers = {
                count: stack.enter_context(SamplerServer("--workers", str(count), transport=transport))
                for count in counts
            }
            for count, server in servers.items():
                await_all(server, count)
            for vocab_size in VOCAB_SIZES:
                progress(f"{transport}, V = {vocab_size:,}, workers: {', '.join(map(str, counts))}")
                request = sample_request(vocab_size)
                body.write_bytes(frame(request.SerializeToString()))
                for server in servers.values():
                    checked_reply(server.port, request)
                subjects = [
                    Subject(name=str(count), server=server, body=body, load=LOAD) for count, server in servers.items()
                ]
                measured = in_turns(subjects, plan, progress)
                sizes.append(
                    {
                        "transport": transport,
                        "vocab_size": vocab_size,
                        "workers": list(counts),
                        "measured": measured,
                        "ratios": {str(count): ratio(measured, str(count), "1") for count in counts},
                        "pss_bytes": {str(count): server.pss_bytes() for count, server in servers.items()},
                    }
                )
    return {"note": NOTE, "plan": asdict(plan), "sizes": sizes}


def _counts(cores: int) -> tuple[int, ...]:
    """Give 1, 2 and every further power of two up to the cores."""
    return tuple(count for count in (1, 2, 4, 8, 16, 32) if count <= max(2, cores))


def await_all(server: SamplerServer, count: int) -> None:
    """Wait until all workers answer: the health of one is not that of all."""
    give_up = time.monotonic() + _UP_S
    while count > 1 and read_metrics(server.metrics_url).total("samplerd_worker_up") < count:
        if time.monotonic() > give_up:
            raise ServerError(f"not all of {count} workers serve:\n{server.tail()}")
        time.sleep(0.1)


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["workers", "rows/s", "of one", "CPU us/row", "batch", "p50 ms", "p99 ms", "PSS MiB"]
    rows = []
    for size in result["sizes"]:
        for count in map(str, size["workers"]):
            entry = size["measured"][count]
            rows.append(
                [
                    f"V = {size['vocab_size']:,}, {size['transport']}, {count}",
                    f"{entry['rows_per_s']:,.0f}",
                    f"{size['ratios'][count]:.2f}",
                    f"{entry['cpu_us_per_row']:.0f}",
                    f"{entry['mean_batch_rows']:.1f}",
                    f"{entry['latency_ms']['p50']:.1f}",
                    f"{entry['latency_ms']['p99']:.1f}",
                    f"{size['pss_bytes'][count] / 2**20:,.0f}",
                ]
            )
    return header, rows


def figure(result: Result) -> Figure:
    """Draw rows per second over the workers."""
    vocab_sizes = sorted({size["vocab_size"] for size in result["sizes"]})
    drawing, axes = plt.subplots(
        1, len(vocab_sizes), figsize=(5 * len(vocab_sizes), 4), layout="constrained", squeeze=False
    )
    for ax, vocab_size in zip(axes[0], vocab_sizes, strict=True):
        for size in result["sizes"]:
            if size["vocab_size"] == vocab_size:
                who = size["transport"]
                rates = [size["measured"][str(count)]["rows_per_s"] for count in size["workers"]]
                ax.plot(size["workers"], rates, "o-", color=COLOURS[who], label=LABELS[who])
        ax.set_xticks(result["sizes"][0]["workers"])
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter("{x:,g}")
        ax.set_xlabel("workers")
        ax.set_title(f"V = {vocab_size:,}", fontsize=12)
    axes[0][0].set_ylabel("rows per second")
    axes[0][0].legend(frameon=False)
    drawing.suptitle("Throughput by workers; the load has the same cores")
    return drawing


SCENARIO = Scenario(run=run, table=table, figure=figure)
