"""One set of metrics from those of several processes, each as the table of metrics says. Pure.

What an ended process had counted stays in the sum, so that no counter and no histogram goes backwards. Gauges are those
of the processes that run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.metrics.definition import Merge
from samplerd_server.metrics.table import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from samplerd_server.metrics.snapshot import Snapshot

__all__ = ["keep_counts", "merge"]


def _first(first: float, _: float) -> float:
    return first


_TOGETHER: dict[Merge, Callable[[float, float], float]] = {
    Merge.SUM: float.__add__,
    Merge.MAX: max,
    Merge.MIN: min,
    Merge.FIRST: _first,
    Merge.PER_WORKER: _first,  # no two processes have the same series
}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Put snapshots together; a metric or series that some lack is that of the others."""
    merged: Snapshot = {}
    for snapshot in snapshots:
        for name, samples in snapshot.items():
            put_together = _TOGETHER[BY_NAME[name].merge]
            total = merged.setdefault(name, {})
            for key, value in samples.items():
                total[key] = put_together(float(total[key]), float(value)) if key in total else value
    return merged


def keep_counts(snapshot: Snapshot) -> Snapshot:
    """Give what is left of a process that has ended: its counters and histograms."""
    return {name: samples for name, samples in snapshot.items() if BY_NAME[name].stays}
