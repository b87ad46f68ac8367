"""Counters, histograms, gauges and labels of information: what a server counts with, in plain numbers.

One thread adds; others may read, and may see a count one addition ahead of its sum. Why these are our own stands in
docs/design/0004-own-counters.md. Which of them there are stands in `table.py`.

`read` gives the keys of all series and their values. The keys are one object as long as no series is added.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from samplerd_server.metrics.series import Key

__all__ = ["Cell", "Counter", "Gauge", "Histogram", "Info"]

_Keys = tuple["Key", ...]


class Cell:
    """One series of a counter, for code that adds to it often."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counter:
    """A count for each combination of label values. One thread adds."""

    __slots__ = ("_cells", "_keys", "_readers", "help", "labels", "name")
    type = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), known: Iterable[tuple[str, ...]] = ()) -> None:  # noqa: A002  # Prometheus' own word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._cells: dict[tuple[str, ...], Cell] = {values: Cell() for values in (known if labels else [()])}
        self._readers: dict[tuple[str, ...], Callable[[], float]] = {}
        self._keys: _Keys = ()

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
        other._cells, other._readers = self._cells, self._readers
        return other

    def show_also(self, cell: Cell, *values: str) -> None:
        """Show a series of another counter as the one of these label values."""
        self._cells[values] = cell

    def watch(self, read: Callable[[], float], *values: str) -> None:
        """Read the series of these label values with `read`, which never goes backwards, on the thread that scrapes."""
        self._readers[values] = read
        self.cell(*values)  # its place among the series, which it keeps

    def read(self) -> tuple[_Keys, list[float]]:
        """Read all series."""
        cells, readers, keys = list(self._cells.items()), self._readers, self._keys
        if len(keys) != len(cells):
            self._keys = keys = _keys_of(f"{self.name}_total", self.labels, [values for values, _ in cells])
        if not readers:
            return keys, [cell.value for _, cell in cells]
        return keys, [float(readers[own]()) if own in readers else cell.value for own, cell in cells]


class Histogram:
    """Counts by upper bound, for each combination of label values. One thread observes."""

    __slots__ = ("_bounds", "_keys", "_series", "help", "labels", "name")
    type = "histogram"

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
        self._keys: _Keys = ()
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

    def observe_times(self, times: int, amount: float) -> None:
        """Count so many observations of one amount, in a histogram without labels."""
        series = self._series[()]
        series[bisect_left(self._bounds, amount)] += times
        series[-1] += times * amount

    def summary(self, *values: str) -> tuple[int, float]:
        """Give the number of observations and their sum."""
        *counts, total = self.series(*values)
        return int(sum(counts)), total

    def renamed(self, name: str, help: str) -> Histogram:  # noqa: A002  # Prometheus' own word
        """Give the same series under another name."""
        other = Histogram(name, help, self._bounds, self.labels)
        other._series = self._series
        return other

    def read(self) -> tuple[_Keys, list[float]]:
        """Read all series: cumulative counts, of every bucket and of all, and the sum."""
        series = list(self._series.items())
        if len(self._keys) != len(series) * (len(self._bounds) + 3):
            self._keys = tuple(key for values, _ in series for key in self._keys_of(values))
        found: list[float] = []
        for _, own in series:
            found += accumulate(own[:-1])
            found += (found[-1], own[-1])
        return self._keys, found

    def _keys_of(self, values: tuple[str, ...]) -> Iterable[Key]:
        labels = tuple(zip(self.labels, values, strict=True))
        for bound in (*map(str, self._bounds), "+Inf"):
            yield f"{self.name}_bucket", (*labels, ("le", bound))
        yield f"{self.name}_count", labels
        yield f"{self.name}_sum", labels


class Gauge:
    """A value for each combination of label values, read when somebody scrapes. Shows what `watch` has been told of."""

    __slots__ = ("_keys", "_readers", "help", "labels", "name")
    type = "gauge"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:  # noqa: A002  # Prometheus' own word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._readers: dict[tuple[str, ...], Callable[[], float]] = {}
        self._keys: _Keys = ()

    def watch(self, read: Callable[[], float], *values: str) -> None:
        """Read the series of these label values with `read`, which runs on the thread that scrapes."""
        self._readers[values] = read

    def renamed(self, name: str, help: str) -> Gauge:  # noqa: A002  # Prometheus' own word
        """Give the same series under another name."""
        other = Gauge(name, help, self.labels)
        other._readers = self._readers
        return other

    def read(self) -> tuple[_Keys, list[float]]:
        """Read all series."""
        readers = list(self._readers.items())
        if len(self._keys) != len(readers):
            self._keys = _keys_of(self.name, self.labels, [values for values, _ in readers])
        return self._keys, [float(read()) for _, read in readers]


class Info:
    """Labels whose values never change, on a series that is always 1. Shows what `describe` has been told."""

    __slots__ = ("_keys", "help", "labels", "name")
    type = "info"

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:  # noqa: A002  # Prometheus' own word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._keys: _Keys = ()

    def describe(self, **values: str) -> None:
        """Set the value of every label.

        Raises:
            ValueError: they are not the labels of the table.

        """
        if set(values) != set(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(values)}")
        self._keys = ((f"{self.name}_info", tuple(values.items())),)

    def renamed(self, name: str, help: str) -> Info:  # noqa: A002  # Prometheus' own word
        """Give the same values under another name."""
        other = Info(name, help, self.labels)
        other._keys = tuple((f"{name}_info", labels) for _, labels in self._keys)
        return other

    def read(self) -> tuple[_Keys, list[float]]:
        """Read the series."""
        return self._keys, [1.0] * len(self._keys)


def _keys_of(sample: str, labels: tuple[str, ...], shown: Iterable[tuple[str, ...]]) -> _Keys:
    return tuple((sample, tuple(zip(labels, values, strict=True))) for values in shown)
