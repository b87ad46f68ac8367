"""The cost model: predicts the seconds that a batch takes, from the batches that have finished.

The model is a line: seconds = overhead + work x rate, fitted by least squares; each finished batch lowers the weight of
those before it. The work of a request is its price in nanoseconds (`sampling/price.py`): the rate is about 1e-9.
"""

from __future__ import annotations

__all__ = ["CostModel"]

_MEMORY = 0.98
"""Each newer batch multiplies the weight of the older ones by this: about the last fifty count."""
_FASTEST = 5e-11
"""Lower bound of the rate: twenty times as fast as the machine of the prices. Small batches alone say little about the
rate, and a line through them must never predict that a large batch takes no time."""


class CostModel:
    """Predicts the seconds that a batch will take on the device."""

    __slots__ = ("_count", "_overhead", "_rate", "_square", "_time", "_time_work", "_work")

    def __init__(self) -> None:
        # Decayed sums over batches of 1, work, work^2, seconds and seconds x work.
        self._count = self._work = self._square = self._time = self._time_work = 0.0
        self._overhead = self._rate = 0.0

    def learn(self, work: int, seconds: float) -> None:
        """Update the model with a finished batch."""
        self._count = self._count * _MEMORY + 1.0
        self._work = self._work * _MEMORY + work
        self._square = self._square * _MEMORY + float(work) * work
        self._time = self._time * _MEMORY + seconds
        self._time_work = self._time_work * _MEMORY + seconds * work
        mean_work, mean_time = self._work / self._count, self._time / self._count
        variance = self._square / self._count - mean_work * mean_work
        if variance > 1e-6 * mean_work * mean_work:
            slope = (self._time_work / self._count - mean_work * mean_time) / variance
            # A slope outside of these bounds is noise: time never falls with work, and the overhead is never negative.
            self._rate = max(_FASTEST, min(slope, mean_time / mean_work))
            self._overhead = max(0.0, mean_time - self._rate * mean_work)
        else:
            self._rate, self._overhead = max(_FASTEST, mean_time / max(1.0, mean_work)), 0.0

    @property
    def knows(self) -> bool:
        """Whether any batch has finished, so that predictions mean something."""
        return self._count > 0.0

    @property
    def rate(self) -> float:
        """Seconds for a nanosecond of price, beside the overhead of a batch; 0 before any batch has finished."""
        return self._rate

    def predict(self, work: float) -> float:
        """Predict the seconds that one batch with this work will take; 0 before any batch has finished."""
        return self._overhead + work * self._rate
