"""What a scrape reads: the names of all series, which hardly ever change, and beside them their values.

A `Layout` is made once and kept, with whatever is derived from it; only values are read, sent, merged and written at
each scrape.
"""

from __future__ import annotations

from functools import cached_property
from operator import is_
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Family", "Joiner", "Key", "Layout", "Snapshot", "Source"]

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and the names and values of its labels."""


class Family(NamedTuple):
    """One metric: its name, texts and series."""

    name: str
    """Without the suffix of its kind."""
    help: str
    type: str
    """Prometheus' word for the kind."""
    keys: tuple[Key, ...]


class Layout:
    """All series, in the order in which they are shown. Compared by identity."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = tuple(families)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The keys of all series."""
        return tuple(key for family in self.families for key in family.keys)


class Snapshot(NamedTuple):
    """All series of a process at one time."""

    layout: Layout
    values: Sequence[float]
    """One for each of the layout's keys."""

    def metrics(self) -> Iterator[Metric]:
        """Give them as prometheus_client has them."""
        values = iter(self.values)
        for family in self.layout.families:
            metric = Metric(family.name, family.help, family.type)
            for sample, labels in family.keys:
                metric.add_sample(sample, dict(labels), next(values))
            yield metric

    def by_key(self) -> dict[Key, float]:
        """Give each series by its key."""
        return dict(zip(self.layout.keys, self.values, strict=True))

    def named(self, names: frozenset[str]) -> Snapshot:
        """Give the series of some names alone: of the metric, or of the series."""
        families, values, at = [], [], 0
        for family in self.layout.families:
            chosen = [place for place, (name, _) in enumerate(family.keys) if {name, family.name} & names]
            if chosen:
                families.append(family._replace(keys=tuple(family.keys[place] for place in chosen)))
                values += [self.values[at + place] for place in chosen]
            at += len(family.keys)
        return Snapshot(Layout(families), values)


class Source(Protocol):
    """What a scrape reads from."""

    def read(self) -> Snapshot:
        """Read all series. On the thread that scrapes."""
        ...


class Joiner:
    """Puts the snapshots of several sources one after the other."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Layout, ...], Layout] = (), Layout(())

    def join(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Give one snapshot; its layout is the same as before if all of theirs are."""
        parts, layout = self._last
        if len(parts) != len(snapshots) or not all(map(is_, parts, (own.layout for own in snapshots))):
            parts = tuple(own.layout for own in snapshots)
            layout = Layout([family for part in parts for family in part.families])
            self._last = parts, layout
        return Snapshot(layout, [value for own in snapshots for value in own.values])
