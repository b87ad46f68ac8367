"""Counters, histograms, gauges and labels of information: what a server counts with, in plain numbers.

One thread adds; others may read, and may see a count one addition ahead of its sum. Why these are our own stands in
docs/design/0004-own-counters.md. Which of them there are stands in `table.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Cell", "Counter", "Gauge", "Histogram", "Info"]


class Cell:
    """One series of a counter, for code that adds to it often."""

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

    def renamed(self, name: str, help: str) -> Counter:  # noqa: A002  # Prometheus' own word
        """Give the same series under another name."""
        other = Counter(name, help, self.labels)
        other._cells = self._cells
        return other

    def show_also(self, cell: Cell, *values: str) -> None:
        """Show a series of another counter as the one of these label values."""
        self._cells[values] = cell

    def family(self) -> CounterMetricFamily:
        """Give the series as Prometheus wants them."""
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
        """Give the number of observations and their sum."""
        *counts, total = self.series(*values)
        return int(sum(counts)), total

    def renamed(self, name: str, help: str) -> Histogram:  # noqa: A002  # Prometheus' own word
        """Give the same series under another name."""
        other = Histogram(name, help, self._bounds, self.labels)
        other._series = self._series
        return other

    def family(self) -> HistogramMetricFamily:
        """Give the series as Prometheus wants them: cumulative counts."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, series in list(self._series.items()):
            counts, total, seen = series[:-1], series[-1], 0.0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                seen += count
                buckets.append((bound, seen))
            family.add_metric(values, buckets, sum_value=total)
        return family


class Gauge:
    """A value for each combination of label values, read when somebody scrapes. Shows what `watch` has been told of."""

    __slots__ = ("_readers", "help", "labels", "name")

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:  # noqa: A002  # Prometheus' own word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._readers: dict[tuple[str, ...], Callable[[], float]] = {}

    def watch(self, read: Callable[[], float], *values: str) -> None:
        """Read the series of these label values with `read`, which runs on the thread that scrapes."""
        self._readers[values] = read

    def renamed(self, name: str, help: str) -> Gauge:  # noqa: A002  # Prometheus' own word
        """Give the same series under another name."""
        other = Gauge(name, help, self.labels)
        other._readers = self._readers
        return other

    def family(self) -> GaugeMetricFamily:
        """Give the series as Prometheus wants them."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, read in self._readers.items():
            family.add_metric(values, read())
        return family


class Info:
    """Labels whose values never change, on a series that is always 1. Shows what `describe` has been told."""

    __slots__ = ("_values", "help", "labels", "name")

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:  # noqa: A002  # Prometheus' own word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._values: dict[str, str] = {}

    def describe(self, **values: str) -> None:
        """Set the value of every label.

        Raises:
            ValueError: they are not the labels of the table.

        """
        if set(values) != set(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(values)}")
        self._values = values

    def renamed(self, name: str, help: str) -> Info:  # noqa: A002  # Prometheus' own word
        """Give the same values under another name."""
        other = Info(name, help, self.labels)
        other._values = self._values
        return other

    def family(self) -> InfoMetricFamily:
        """Give the series as Prometheus wants it."""
        return InfoMetricFamily(self.name, self.help, value=self._values or None)
