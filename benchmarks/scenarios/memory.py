"""Resident memory over a million requests: flat, or a leak."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply, expect_all_ok
from benchmarks.load import frame, run_load, sample_request
from benchmarks.plots import COLOURS, LABELS, plt
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZE = 1_024
WARM_UP = 20_000
"""Calls before the first reading, so that caches, arenas and buffers have their size."""
STEPS = 20
"""Readings on the way."""
ALLOWED_GROWTH = 0.05
NOTE = f"one f32 row of {VOCAB_SIZE:,} a call; resident memory of all processes, with nothing in flight"


def run(progress: Progress, options: Options) -> Result:
    """Send the requests to each transport, reading resident memory before, on the way and after."""
    return {"note": NOTE, "servers": [_watch(transport, options, progress) for transport in options.transports]}


def _watch(transport: str, options: Options, progress: Progress) -> Result:
    step = max(1, options.memory_requests // STEPS)
    warm_up = 2_000 if options.quick else WARM_UP
    with (
        SamplerServer(transport=transport) as server,
        tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder,
    ):
        body = Path(folder) / "body"
        request = sample_request(VOCAB_SIZE)
        body.write_bytes(frame(request.SerializeToString()))
        checked_reply(server.port, request)
        at_start = server.rss_bytes()
        progress(f"{transport}: {warm_up:,} requests to warm up, then {step * STEPS:,}")
        run_load(server.port, body, requests=warm_up)
        counted = read_metrics(server.metrics_url)
        series = [(0, server.rss_bytes())]
        for number in range(1, STEPS + 1):
            run_load(server.port, body, requests=step)
            series.append((number * step, server.rss_bytes()))
            if number % (STEPS // 4) == 0:
                progress(f"  {series[-1][0]:,} requests: {series[-1][1] / 2**20:.1f} MiB")
        expect_all_ok(read_metrics(server.metrics_url) - counted, step * STEPS)
    before, after = series[0][1], series[-1][1]
    return {
        "transport": transport,
        "at_start_bytes": at_start,
        "before_bytes": before,
        "after_bytes": after,
        "growth": after / before - 1,
        "requests": step * STEPS,
        "series": series,
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["transport", "requests", "before MiB", "after MiB", "growth"]
    return header, [
        [
            entry["transport"],
            f"{entry['requests']:,}",
            f"{entry['before_bytes'] / 2**20:.1f}",
            f"{entry['after_bytes'] / 2**20:.1f}",
            f"{100 * entry['growth']:+.2f} %",
        ]
        for entry in result["servers"]
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold the growth against what counts as flat."""
    for entry in result["servers"]:
        yield Target(
            what=f"{entry['transport']}, growth of memory over {entry['requests']:,} requests",
            value=100 * entry["growth"],
            bound=100 * ALLOWED_GROWTH,
            at_most=True,
            unit="%",
        )


def figure(result: Result) -> Figure:
    """Draw resident memory over the requests, with the band that counts as flat."""
    drawing, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for entry in result["servers"]:
        colour, before = COLOURS[entry["transport"]], entry["before_bytes"] / 2**20
        ax.axhspan((1 - ALLOWED_GROWTH) * before, (1 + ALLOWED_GROWTH) * before, color=colour, alpha=0.12)
        ax.plot(
            [requests for requests, _ in entry["series"]],
            [size / 2**20 for _, size in entry["series"]],
            "o-",
            color=colour,
            markersize=4,
            label=LABELS[entry["transport"]],
        )
    ax.set_xlabel("requests after warming up")
    ax.set_ylabel("resident memory, MiB")
    ax.set_ylim(0, 1.25 * max(size for entry in result["servers"] for _, size in entry["series"]) / 2**20)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_title("Resident memory; shaded: within 5 % of the first reading", fontsize=12)
    ax.legend(frameon=False, loc="lower right")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
