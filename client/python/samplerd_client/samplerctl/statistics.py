"""Just enough statistics for an audit: percentiles, and the chi-square test, in float64 and without scipy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Fit", "chi_square_fit", "chi_square_sf", "gamma_q", "percentile"]

_MIN_EXPECTED = 5.0
"""Cells with a smaller expectation are pooled: below it the chi-square law is no good approximation (Cochran, 1954)."""

_MAX_TERMS = 100_000
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome of a chi-square test of goodness of fit."""

    statistic: float
    degrees: int
    p_value: float


def percentile(ordered: Sequence[float] | NDArray[np.float64], percent: float) -> float:
    """Return the nearest-rank percentile of ascending values; NaN when there are none.

    Nearest-rank, because a latency that was never seen should not be reported.
    """
    if len(ordered) == 0:
        return math.nan
    rank = math.ceil(percent / 100.0 * len(ordered) - 1e-9)  # 99.9 / 100 * 1000 is a little more than 999
    return float(ordered[min(max(rank, 1), len(ordered)) - 1])


def chi_square_fit(counts: NDArray[Any], probabilities: NDArray[Any]) -> Fit:
    """Test counts against a distribution, cells with small expectations pooled.

    Args:
        counts: int[V], draws of each category.
        probabilities: float64[V], sum 1.

    Returns:
        The fit; p = 0 when a category of probability 0 was drawn, p = 1 when there is nothing to compare.

    """
    if np.any(counts[probabilities == 0.0]):
        return Fit(math.inf, 0, 0.0)
    expected = probabilities * counts.sum()
    small = expected < _MIN_EXPECTED
    observed_cells = list(counts[~small].astype(np.float64))
    expected_cells = list(expected[~small])
    if small.any():
        observed_cells.append(float(counts[small].sum()))
        expected_cells.append(float(expected[small].sum()))
        if expected_cells[-1] < _MIN_EXPECTED and len(expected_cells) > 1:  # still too small: into the smallest other
            smallest = int(np.argmin(expected_cells[:-1]))
            observed_cells[smallest] += observed_cells.pop()
            expected_cells[smallest] += expected_cells.pop()
    degrees = len(expected_cells) - 1
    if degrees < 1:
        return Fit(0.0, 0, 1.0)
    observed, wanted = np.array(observed_cells), np.array(expected_cells)
    statistic = float(np.sum((observed - wanted) ** 2 / wanted))
    return Fit(statistic, degrees, chi_square_sf(statistic, degrees))


def chi_square_sf(statistic: float, degrees: float) -> float:
    """Return the probability that a chi-square variable exceeds `statistic`."""
    if statistic <= 0.0:
        return 1.0
    return gamma_q(degrees / 2.0, statistic / 2.0)


def gamma_q(a: float, x: float) -> float:
    """Return the regularised upper incomplete gamma function Q(a, x), a > 0, x >= 0.

    Below x = a + 1 by the series of P, above it by the continued fraction of Q (Lentz's method), each where it
    converges fast (Press et al., Numerical Recipes, section 6.2).
    """
    if math.isinf(x):
        return 0.0
    if x == 0.0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        term = total = 1.0 / a
        for step in range(1, _MAX_TERMS):
            term *= x / (a + step)
            total += term
            if term < total * 1e-17:
                break
        return min(1.0, max(0.0, 1.0 - front * total))
    b = x + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    fraction = d
    for step in range(1, _MAX_TERMS):
        numerator = -step * (step - a)
        b += 2.0
        d = 1.0 / _away_from_zero(numerator * d + b)
        c = _away_from_zero(b + numerator / c)
        fraction *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return min(1.0, front * fraction)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
