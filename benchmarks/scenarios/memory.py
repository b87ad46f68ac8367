"""Resident memory of the server over many requests: flat, or a leak."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply, expect_all_ok
from benchmarks.load import frame, run_load, sample_request
from benchmarks.plots import OURS, REFERENCE, plt
from benchmarks.scenario import Options, Result, Scenario, Table
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZE = 1_024
WARM_UP = 20_000
"""Calls before the first reading, so that caches, arenas and buffers have their size."""
REQUESTS = 200_000
STEPS = 20
"""Readings on the way."""
ALLOWED_GROWTH = 0.05
NOTE = f"one f32 row of {VOCAB_SIZE:,} a call; resident memory (VmRSS) with nothing in flight"


def run(progress: Progress, options: Options) -> Result:
    """Send the requests, reading the server's resident memory before, on the way and after."""
    warm_up, requests = (2_000, 10_000) if options.quick else (WARM_UP, REQUESTS)
    step = requests // STEPS
    with SamplerServer() as server, tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder:
        body = Path(folder) / "body"
        request = sample_request(VOCAB_SIZE)
        body.write_bytes(frame(request.SerializeToString()))
        checked_reply(server.port, request)
        at_start = server.rss_bytes()
        progress(f"{warm_up:,} requests to warm up, then {requests:,}")
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
        "note": NOTE,
        "at_start_bytes": at_start,
        "before_bytes": before,
        "after_bytes": after,
        "growth": after / before - 1,
        "is_flat": abs(after / before - 1) <= ALLOWED_GROWTH,
        "requests": step * STEPS,
        "series": series,
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["requests", "before MiB", "after MiB", "growth", "flat within 5 %"]
    row = [
        f"{result['requests']:,}",
        f"{result['before_bytes'] / 2**20:.1f}",
        f"{result['after_bytes'] / 2**20:.1f}",
        f"{100 * result['growth']:+.2f} %",
        "yes" if result["is_flat"] else "NO",
    ]
    return header, [row]


def figure(result: Result) -> Figure:
    """Draw resident memory over the requests, with the band that counts as flat."""
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    before = result["before_bytes"] / 2**20
    axes.axhspan(0.95 * before, 1.05 * before, color=REFERENCE, alpha=0.3, label="within 5 % of the first")
    axes.plot(
        [requests for requests, _ in result["series"]],
        [size / 2**20 for _, size in result["series"]],
        "o-",
        color=OURS,
        markersize=4,
        label="resident memory",
    )
    axes.set_xlabel("requests after warming up")
    axes.set_ylabel("MiB")
    axes.set_ylim(0, 1.25 * max(size for _, size in result["series"]) / 2**20)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("Resident memory of samplerd", fontsize=12)
    axes.legend(frameon=False, loc="lower right")
    return figure


SCENARIO = Scenario(run=run, table=table, figure=figure)
