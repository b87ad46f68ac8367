"""One set of metrics from those of several processes, each as the table of metrics says. Pure.

What an ended process had counted stays in the sum, so that no counter and no histogram goes backwards. Gauges are those
of the processes that run.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from samplerd_server.metrics.definition import Merge
from samplerd_server.metrics.series import Layout, Snapshot
from samplerd_server.metrics.table import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["keep_counts", "merge"]

_TOGETHER: dict[Merge, Callable[[Any], float]] = {
    Merge.SUM: sum,
    Merge.MAX: max,
    Merge.MIN: min,
    Merge.FIRST: itemgetter(0),
    Merge.PER_WORKER: sum,  # only a worker and those before it have the same series
}


class _Plan(NamedTuple):
    """How snapshots of some layouts are put together."""

    layout: Layout
    """The merged one."""
    places: tuple[tuple[int, ...], ...]
    """Of each layout, where its values are in the merged one."""
    together: tuple[Callable[[Any], float], ...]
    """What makes one of the values at a place."""


def merge(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Put snapshots together; a metric or series that some lack is that of the others."""
    layouts = tuple(dict.fromkeys(own.layout for own in snapshots))
    plan = _plan(layouts)
    columns: list[list[float]] = [[] for _ in plan.together]
    for layout, places in zip(layouts, plan.places, strict=True):
        alike = zip(*(own.values for own in snapshots if own.layout is layout), strict=True)
        for place, values in zip(places, alike, strict=True):
            columns[place] += values
    return Snapshot(plan.layout, [together(column) for together, column in zip(plan.together, columns, strict=True)])


@lru_cache(maxsize=16)
def _plan(layouts: tuple[Layout, ...]) -> _Plan:
    families: dict[str, Any] = {}
    for layout in layouts:
        for own in layout.families:
            known = families.setdefault(own.name, own)
            if known is not own:
                families[own.name] = known._replace(keys=tuple(dict.fromkeys((*known.keys, *own.keys))))
    merged = Layout(tuple(families.values()))
    place_of = {key: place for place, key in enumerate(merged.keys)}
    places = tuple(tuple(place_of[key] for key in layout.keys) for layout in layouts)
    together = tuple(_TOGETHER[BY_NAME[own.name].merge] for own in merged.families for _ in own.keys)
    return _Plan(merged, places, together)


def keep_counts(snapshot: Snapshot) -> Snapshot:
    """Give what is left of a process that has ended: its counters and histograms."""
    stay = [BY_NAME[own.name].stays for own in snapshot.layout.families for _ in own.keys]
    return Snapshot(
        _counts_of(snapshot.layout), [value for value, is_kept in zip(snapshot.values, stay, strict=True) if is_kept]
    )


@lru_cache(maxsize=16)
def _counts_of(layout: Layout) -> Layout:
    return Layout([own for own in layout.families if BY_NAME[own.name].stays])
