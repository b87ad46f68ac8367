"""Counters and histograms in plain numbers: what the event loop adds to.

One thread adds; others may read, and may see a count one addition ahead of its sum. Why these are our own stands in
docs/design/0004-own-counters.md.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Cell", "Counter", "Histogram"]


class Cell:
    """One series of a counter, for who adds to it often."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counter:
    """A count for each combination of label values. One thread adds."""

    __slots__ = ("_cells", "help", "labels", "name")

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), known: Iterable[tuple[str, ...]] = ()) -> None:  # noqa: A002  # Prometheus' own word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._cells: dict[tuple[str, ...], Cell] = {values: Cell() for values in (known if labels else [()])}

    def cell(self, *values: str) -> Cell:
        """Give the series of these label values, to add to directly."""
        found = self._cells.get(values)
        return found if found is not None else self._cells.setdefault(values, Cell())

    def add(self, amount: float = 1.0, *values: str) -> None:
        """Add `amount` to the series of these label values."""
        self.cell(*values).value += amount

    def value(self, *values: str) -> float:
        """Read one series."""
        found = self._cells.get(values)
        return 0.0 if found is None else found.value

    def total(self) -> float:
        """Read the sum of all series."""
        return sum(cell.value for cell in list(self._cells.values()))

    def family(self) -> CounterMetricFamily:
        """As Prometheus wants it."""
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for values, cell in list(self._cells.items()):
            family.add_metric(values, cell.value)
        return family


class Histogram:
    """Counts by upper bound, for each combination of label values. One thread observes."""

    __slots__ = ("_bounds", "_series", "help", "labels", "name")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002  # Prometheus' own word
        bounds: Sequence[float],
        labels: Sequence[str] = (),
        known: Iterable[tuple[str, ...]] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], list[float]] = {}
        for values in known if labels else [()]:
            self.series(*values)

    def series(self, *values: str) -> list[float]:
        """Give the series of these label values, to count in directly.

        One count a bucket, one past the last bound, and at the end the sum of what was observed.
        """
        return self._series.setdefault(values, [0.0] * (len(self._bounds) + 2))

    def observe(self, amount: float, *values: str) -> None:
        """Count one observation."""
        series = self._series.get(values) or self.series(*values)
        series[bisect_left(self._bounds, amount)] += 1
        series[-1] += amount

    def summary(self, *values: str) -> tuple[int, float]:
        """How many observations there were, and their sum."""
        *counts, total = self.series(*values)
        return int(sum(counts)), total

    def family(self) -> HistogramMetricFamily:
        """As Prometheus wants it: cumulative counts."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, series in list(self._series.items()):
            counts, total, seen = series[:-1], series[-1], 0.0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                seen += count
                buckets.append((bound, seen))
            family.add_metric(values, buckets, sum_value=total)
        return family
