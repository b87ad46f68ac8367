"""The cost model: predicts the seconds that a batch takes, from the batches and slices that have finished.

The model is a line: seconds = overhead + work x rate. It is fitted by least squares of relative errors, so that large
batches say little about small ones; each finished batch lowers the weight of those before it. The work of a request is
its price in nanoseconds (`sampling/price.py`), so the rate is about 1e-9. Batches of one size do not tell the rate from
the overhead: the fit then keeps to the nominal rate (ridge regression: Hoerl and Kennard, 1970, Technometrics 12).
"""

from __future__ import annotations

__all__ = ["NOMINAL_RATE", "CostModel"]

NOMINAL_RATE = 1e-9
"""Seconds for a nanosecond of price, before anything is known: what the price is measured in."""
_MEMORY = 0.98
"""Each newer batch multiplies the weight of the older ones by this: about the last fifty count."""
_FASTEST = 5e-11
"""Lower bound of the rate: twenty times as fast as the machine of the prices. Small batches alone say little about the
rate, and a line through them must never predict that a large batch takes no time."""
_SMALL_WORK = 1e5
"""Batches of less than this, 0.1 ms by their price, count alike; the errors of larger ones count by their work."""
_SPREAD = 1e-3
"""How much the works of batches must differ before their times tell the rate: the square of 3 % of their mean."""


class CostModel:
    """Predicts the seconds that a batch will take on the device."""

    __slots__ = ("_overhead", "_rate", "_square", "_time", "_time_work", "_weight", "_work")

    def __init__(self) -> None:
        # Decayed weighted sums over batches of 1, work, work^2, seconds and seconds x work.
        self._weight = self._work = self._square = self._time = self._time_work = 0.0
        self._overhead = self._rate = 0.0

    def learn(self, work: float, seconds: float) -> None:
        """Update the model with a batch or slice that has finished."""
        weight = (_SMALL_WORK / (work + _SMALL_WORK)) ** 2
        self._weight = self._weight * _MEMORY + weight
        self._work = self._work * _MEMORY + weight * work
        self._square = self._square * _MEMORY + weight * work * work
        self._time = self._time * _MEMORY + weight * seconds
        self._time_work = self._time_work * _MEMORY + weight * seconds * work
        mean_work, mean_time = self._work / self._weight, self._time / self._weight
        # A rate outside of these bounds is noise: time never falls with work, and the overhead is never negative.
        most = mean_time / max(1.0, mean_work)
        variance = self._square / self._weight - mean_work * mean_work
        covariance = self._time_work / self._weight - mean_work * mean_time
        prior = _SPREAD * max(1.0, mean_work * mean_work)
        rate = (covariance + prior * min(NOMINAL_RATE, most)) / (variance + prior)
        self._rate = max(_FASTEST, min(rate, most))
        self._overhead = max(0.0, mean_time - self._rate * mean_work)

    @property
    def knows(self) -> bool:
        """Whether any batch has finished, so that predictions mean something."""
        return self._weight > 0.0

    @property
    def rate(self) -> float:
        """Seconds for a nanosecond of price, beside the overhead of a batch; 0 before any batch has finished."""
        return self._rate

    def predict(self, work: float) -> float:
        """Predict the seconds that one batch with this work will take; 0 before any batch has finished."""
        return self._overhead + work * self._rate
