"""One set of metrics from those of several processes. Pure.

Counters and histograms are summed, and what an ended process had counted stays in the sum, so that none goes backwards.
Gauges are summed over the processes that run, but for those of which a sum says nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from samplerd_server.metrics.snapshot import Family, Key, Snapshot

__all__ = ["keep_counts", "merge"]

_GROWS = frozenset({"counter", "histogram"})
_OTHERWISE: dict[str, Callable[[float, float], float]] = {
    "process_max_fds": min,  # each process has the limit to itself
    "process_start_time_seconds": min,  # the supervisor's
    "samplerd_distributions": max,  # all workers share the same
    "samplerd_distribution_bytes": max,
}
"""Gauges that are not summed, and what is done instead."""


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Put snapshots together; a family or series that some lack is that of the others."""
    merged: Snapshot = {}
    for snapshot in snapshots:
        for name, family in snapshot.items():
            if name in merged:
                _add(merged[name], family)
            else:
                merged[name] = replace(family, samples=dict(family.samples))
    return merged


def keep_counts(snapshot: Snapshot) -> Snapshot:
    """Give what is left of a process that has ended: its counters and histograms."""
    return {name: family for name, family in snapshot.items() if family.kind in _GROWS}


def _add(total: Family, more: Family) -> None:
    if more.kind == "info":
        return
    put_together = _OTHERWISE.get(more.name, float.__add__) if more.kind not in _GROWS else float.__add__
    samples: dict[Key, float] = total.samples
    for key, value in more.samples.items():
        samples[key] = put_together(float(samples[key]), float(value)) if key in samples else value
