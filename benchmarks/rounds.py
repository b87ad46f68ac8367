"""Subjects measured in turns: every round loads each of them once, so that a machine that drifts drifts for all.

Figures are medians over the rounds; a ratio is taken within each round, then its median.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.check import expect_all_ok
from benchmarks.load import Load, LoadError, LoadResult, run_load
from benchmarks.scrape import Reading, read_metrics
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.report import Progress
    from benchmarks.servers import ServerProcess

__all__ = ["QUICK", "Plan", "Subject", "in_turns", "ratio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure."""

    seconds: float = 1.5
    """Of each run of h2load, about. Short, so that all of a round meet the same machine."""
    rounds: int = 5
    warm_up_s: float = 0.3
    """Before, for each subject; its rate then sizes the runs."""


QUICK = Plan(seconds=0.4, rounds=2, warm_up_s=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server under one load."""

    name: str
    server: ServerProcess
    body: Path
    """The file with the call: one frame, or as many as `messages` for a stream."""
    load: Load = field(default_factory=Load)
    rows: int = 1
    """In a message."""
    messages: int = 1
    """In a call."""
    rpc: str = "Sample"
    """What samplerd's metrics call it."""
    reply_bytes: int | None = None
    """How long a reply is, its frame's prefix included, of a server without metrics of ours: an error is shorter."""


def in_turns(subjects: Sequence[Subject], plan: Plan, progress: Progress) -> dict[str, dict[str, Any]]:
    """Load all subjects in turns; give each one's medians and rounds, by its name.

    Raises:
        LoadError: a call was not answered, or not with OK.

    """
    calls = {}
    for subject in subjects:
        # The first calls meet cold caches; the second run's rate tells how many calls fill the time.
        few = 2 * subject.load.in_flight
        first = _rate(subject, few)
        second = _rate(subject, max(few, int(first * plan.warm_up_s)))
        calls[subject.name] = max(few, int(second * plan.seconds))
    rounds: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in subjects}
    for number in range(1, plan.rounds + 1):
        for subject in subjects:
            rounds[subject.name].append(_load(subject, calls[subject.name]))
        shown = ", ".join(f"{name} {entries[-1]['rows_per_s']:,.0f}" for name, entries in rounds.items())
        progress(f"  round {number} of {plan.rounds}, rows/s: {shown}")
    return {name: {**_medians(entries), "rounds": entries} for name, entries in rounds.items()}


def ratio(measured: dict[str, dict[str, Any]], subject: str, base: str) -> float:
    """Give the median over the rounds of one subject's rows per second over another's."""
    pairs = zip(measured[subject]["rounds"], measured[base]["rounds"], strict=True)
    return float(statistics.median(ours["rows_per_s"] / theirs["rows_per_s"] for ours, theirs in pairs))


def _rate(subject: Subject, calls: int) -> float:
    return run_load(subject.server.port, subject.body, requests=calls, load=subject.load).rate


def _load(subject: Subject, calls: int) -> dict[str, Any]:
    server = subject.server
    before = read_metrics(server.metrics_url) if isinstance(server, SamplerServer) else None
    cpu_before = server.cpu_s()
    load = run_load(server.port, subject.body, requests=calls, load=subject.load)
    cpu_s = server.cpu_s() - cpu_before
    replies = calls * subject.messages
    if subject.reply_bytes is not None and load.data_bytes != replies * subject.reply_bytes:
        raise LoadError(
            f"{subject.name} sent {load.data_bytes} bytes where {replies} replies of {subject.reply_bytes} were due"
        )
    stages = {}
    if before is not None and isinstance(server, SamplerServer):
        grown = read_metrics(server.metrics_url) - before
        messages = calls * subject.messages
        expect_all_ok(grown, messages, rows=messages * subject.rows, rpc=subject.rpc)
        stages = _stages(grown)
    return {**_figures(load, subject), "cpu_us_per_row": 1e6 * cpu_s / _rows(calls, subject), **stages}


def _rows(calls: int, subject: Subject) -> int:
    return calls * subject.messages * subject.rows


def _figures(load: LoadResult, subject: Subject) -> dict[str, Any]:
    return {
        "calls_per_s": load.rate,
        "rows_per_s": load.rate * subject.messages * subject.rows,
        "latency_ms": {name: 1e3 * value for name, value in load.latency_s.items()},
    }


def _stages(grown: Reading) -> dict[str, float]:
    return {
        "mean_batch_rows": grown.mean("samplerd_batch_rows"),
        "mean_queue_wait_us": 1e6 * grown.mean("samplerd_queue_wait_seconds"),
        "compute_us_per_row": 1e6
        * grown.total("samplerd_compute_seconds_sum")
        / grown.total("samplerd_batch_rows_sum"),
    }


def _medians(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the median of every figure, in the figures of a figure too."""
    return {
        key: _medians([entry[key] for entry in entries])
        if isinstance(value, dict)
        else statistics.median(entry[key] for entry in entries)
        for key, value in entries[0].items()
    }
