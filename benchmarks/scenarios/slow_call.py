"""Where a slow call spends its time: single calls at four fifths of what a server can do, traced from end to end.

Calls begin at random moments (`tails`); one in ten asks the server for its trace. The trace says when the transport had
the call, when it was queued, when its batch was formed, when that was computed, and when the reply was encoded; the
generator, on the same machine and so by the same clock, says when the call was due, when it was made and when its reply
had been read. So a call is cut into stages that add up to what its caller waits. Stages are told of the calls about the
median and of the slowest two in a hundred, not as averages of all: what stalls few calls vanishes in those.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.check import checked_reply
from benchmarks.cores import apart
from benchmarks.http2 import header
from benchmarks.load import frame, percentiles_s, sample_request
from benchmarks.open_loop import poisson, send_on_schedule
from benchmarks.plots import plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns
from benchmarks.scenario import Options, Result, Scenario, Table
from benchmarks.servers import SamplerServer
from benchmarks.spans import Collector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.cores import Cores
    from benchmarks.open_loop import Outcome
    from benchmarks.report import Progress
    from benchmarks.spans import CallSpan

__all__ = ["SCENARIO", "STAGES", "cut"]

VOCAB_SIZES = (1_024, 32_768)
SHARE = 0.8
ONE_IN = 10
"""Calls of which one is traced."""
_MIDDLE, _SLOWEST = (45.0, 55.0), 98.0
"""Percentiles between which a call counts as usual, and above which as slow."""
_AT_ONCE, _BURSTS = np.zeros(256), 5
STAGES = {
    "due, not made": "#dee2e6",
    "on its way in": "#adb5bd",
    "waits for the event loop": "#e07a1f",
    "waits for a batch": "#2a6f97",
    "waits for the device": "#61a5c2",
    "computed": "#2b9348",
    "waits for the event loop again": "#bc4b51",
    "encoded and sent": "#8d6b94",
    "on its way out": "#6c757d",
}
"""The stages in their order, and their colours in the picture."""
NOTE = (
    f"one f32 row a call, at {SHARE:g} of each server's capacity, one call in {ONE_IN} traced; milliseconds of each "
    "stage, means over the calls of a group"
)


def run(progress: Progress, options: Options) -> Result:
    """Measure each transport's capacity, then trace calls below it."""
    plan = QUICK if options.quick else Plan(seconds=1.5, rounds=3)
    seconds, rounds = (1.0, 1) if options.quick else (3.0, 5)
    cells: list[Result] = []
    with apart() as cores, Collector() as collector, tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder:
        for transport in options.transports:
            flags = ("--trace-endpoint", collector.url, "--trace-sample", "0")
            with SamplerServer(*flags, transport=transport) as server:
                for vocab_size in VOCAB_SIZES:
                    message = sample_request(vocab_size).SerializeToString()
                    checked_reply(server.port, sample_request(vocab_size))
                    body = Path(folder, "body")
                    body.write_bytes(frame(message))
                    capacity = _capacity(Subject(name=transport, server=server, body=body), message, plan, cores)
                    progress(f"V = {vocab_size:,}, {transport}: {SHARE:g} of {capacity:,.0f} calls/s")
                    calls, untraced_ms = [], []
                    for number in range(rounds):
                        starts = poisson(SHARE * capacity, seconds, seed=number)
                        traced, others = _traced(server.port, message, starts, collector, cores)
                        calls.append(traced)
                        untraced_ms.append({name: 1e3 * value for name, value in percentiles_s(others).items()})
                    cells.append(_cell(vocab_size, transport, capacity, np.concatenate(calls), untraced_ms))
    return {"note": NOTE, "seconds": seconds, "stages": list(STAGES), "cells": cells}


def _capacity(subject: Subject, message: bytes, plan: Plan, cores: Cores) -> float:
    """Measure what the server can do beside the generator, as `tails` does."""
    closed: float = in_turns([subject], plan, lambda _: None)[subject.name]["rows_per_s"]
    with cores.for_load():
        bursts = [send_on_schedule(subject.server.port, message, _AT_ONCE).rate for _ in range(_BURSTS)]
    return min(closed, float(np.median(bursts)))


def _traced(
    port: int, message: bytes, starts: np.ndarray, collector: Collector, cores: Cores
) -> tuple[np.ndarray, np.ndarray]:
    """Send calls on schedule; returns the stages in seconds [calls, stages] of the traced, the latencies of others."""
    first = time.time_ns()  # no two runs have the same
    ids = {number: first << 32 | number for number in range(0, len(starts), ONE_IN)}
    headers = {number: header("traceparent", f"00-{own:032x}-{1:016x}-01") for number, own in ids.items()}
    epoch_s = time.time() - time.perf_counter()
    with cores.for_load():
        outcome = send_on_schedule(port, message, starts, headers=headers)
    spans = collector.wait_for(ids.values())
    stages = [cut(outcome, starts, number, spans[own], epoch_s) for number, own in ids.items()]
    return np.array(stages), np.delete(outcome.latencies_s, list(ids))


def cut(outcome: Outcome, starts_s: np.ndarray, number: int, span: CallSpan, epoch_s: float) -> list[float]:
    """Cut a call into its stages, in seconds; they add up to its latency.

    Args:
        outcome: of the schedule.
        starts_s: the schedule.
        number: the call's place in it.
        span: what the server tells of the call.
        epoch_s: when the clock of the schedule was 0, in seconds since the epoch.

    """
    due = epoch_s + outcome.began_s + float(starts_s[number])
    computed = span.events_s["compute"]
    moments = [
        due,
        due + float(outcome.lags_s[number]),
        span.began_s,
        span.events_s["wait"],
        span.events_s["batch"],
        computed,
        computed + span.compute_s,
        span.events_s["encode"],
        span.ended_s,
        due + float(outcome.latencies_s[number]),
    ]
    return np.diff(moments).tolist()


def _cell(vocab_size: int, transport: str, capacity: float, stages: np.ndarray, untraced_ms: list[Result]) -> Result:
    """Group traced calls by how long they took, and keep one call of each group."""
    latencies = stages.sum(axis=1)
    low, high = np.percentile(latencies, _MIDDLE)
    groups = {
        "usual": (latencies >= low) & (latencies <= high),
        "slow": latencies >= np.percentile(latencies, _SLOWEST),
    }
    found = {}
    for name, own in groups.items():
        members = stages[own]
        middle = np.argsort(latencies[own])[len(members) // 2]
        found[name] = {"stages_ms": (1e3 * members.mean(axis=0)).tolist(), "call_ms": (1e3 * members[middle]).tolist()}
    return {
        "vocab_size": vocab_size,
        "transport": transport,
        "capacity": capacity,
        "traced": len(stages),
        "groups": found,
        "latency_ms": {name: 1e3 * value for name, value in percentiles_s(latencies).items()},
        "untraced_ms": {
            name: float(np.median([own[name] for own in untraced_ms])) for name in ("p50", "p90", "p99", "p99.9")
        },
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    rows = []
    for cell in result["cells"]:
        for name, group in cell["groups"].items():
            stages = group["stages_ms"]
            what = f"V = {cell['vocab_size']:,}, {cell['transport']}, {name}"
            rows.append([what, f"{sum(stages):.2f}", *(f"{own:.2f}" for own in stages)])
    return ["calls", "whole ms", *result["stages"]], rows


def figure(result: Result) -> Figure:
    """Draw one slow call of each transport and V over time, a usual one above it."""
    cells = result["cells"]
    drawn, all_axes = plt.subplots(len(cells), 1, figsize=(10, 1.6 * len(cells) + 1.2), squeeze=False)
    for cell, ax in zip(cells, all_axes[:, 0], strict=True):
        _draw(ax, cell, result["stages"])
    all_axes[-1, 0].set_xlabel("milliseconds since the call was due")
    handles, labels = all_axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=3, loc="lower center", frameon=False, fontsize=9)
    drawn.tight_layout(rect=(0, 0.9 / drawn.get_figheight(), 1, 1))
    return drawn


def _draw(ax: Axes, cell: Result, stages: list[str]) -> None:
    names = ["slow", "usual"]
    left = np.zeros(len(names))
    lengths = np.array([cell["groups"][name]["call_ms"] for name in names])
    for place, stage in enumerate(stages):
        # What the server estimates may lie a little before what the generator saw.
        length = np.maximum(lengths[:, place], 0.0)
        ax.barh(names, length, left=left, color=STAGES[stage], label=stage, height=0.7)
        left += length
    ax.set_title(f"{cell['transport']}, V = {cell['vocab_size']:,}", loc="left", fontsize=11)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", alpha=0.3)


SCENARIO = Scenario(run=run, table=table, figure=figure)
