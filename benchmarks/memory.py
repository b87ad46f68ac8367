"""Resident memory of the server over many requests: flat, or a leak."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.load import frame, run_load, sample_request
from benchmarks.scrape import read_metrics
from benchmarks.served import checked_reply, expect_all_ok
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from benchmarks.report import Progress

__all__ = ["NOTE", "run", "table"]

VOCAB_SIZE = 1_024
WARM_UP = 20_000
"""Calls before the first reading, so that caches, arenas and buffers have their size."""
REQUESTS = 200_000
STEPS = 20
"""Readings on the way."""
ALLOWED_GROWTH = 0.05
NOTE = f"one f32 row of {VOCAB_SIZE:,} a call; resident memory (VmRSS) with nothing in flight"


def run(progress: Progress, *, quick: bool = False) -> dict[str, Any]:
    """Send the requests, reading the server's resident memory before, on the way and after."""
    warm_up, requests = (2_000, 10_000) if quick else (WARM_UP, REQUESTS)
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


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
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
