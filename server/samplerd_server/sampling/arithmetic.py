"""Powers of two and logarithms that have the same bits everywhere: one text for numpy, compiled code and torch.

What decides whether a category is kept must come out alike on every implementation. So this is written in additions,
multiplications and divisions of binary64, which IEEE 754 rounds in one way; no fused multiply-add, and no call into a
library whose last bits differ between machines. The four functions that the implementations write each in their own way
(`rint`, `power_of_two`, `split`, `where`) are exact.

Rule 1: 2^t = 2^n (1 + f q(f)) with n = rint(t), f = t - n, and q the interpolant of degree 9 of (2^f - 1) / f at the
Chebyshev nodes of [-1/2, 1/2], within 2^-50 of 2^t; whole powers of two are exact. Rule 2: log2 x = n + log2 m with
sqrt(1/2) < m <= sqrt(2), by 2 log2(e) atanh((m - 1) / (m + 1)) to the 23rd power, whose remainder is 1e-18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "COLDEST",
    "COLDEST_EXPONENT",
    "HOTTEST",
    "LN_2",
    "LOG2_E",
    "Arithmetic",
    "arithmetic",
    "exp",
    "exp2",
    "ln",
    "log2",
    "power",
]

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
COLDEST, HOTTEST = 1e-260, 1.7976931348623157e308
"""The ends of temperatures above 0. Below `COLDEST` every gap between two float32 numbers already is beyond the range
of masses, and any logit divided by it is within that of binary64."""
COLDEST_EXPONENT = -1000.0
"""Powers of two below this one are taken to be it: 2^-1000 times anything that is added here is nothing."""

_Q = (
    7.082417141646147e-09,
    1.0207841114606708e-07,
    1.32153936647228e-06,
    1.5252663934006713e-05,
    0.00015403530517712482,
    0.0013333558213318498,
    0.00961812910756904,
    0.055504108664599795,
    0.2402265069591013,
    0.6931471805599465,
)
_ATANH = tuple(2 * LOG2_E / (2 * k + 1) for k in range(11, -1, -1))
_SQRT_HALF = 0.7071067811865476
"""The smallest binary64 above sqrt(1/2): half of the one above sqrt(2)."""


class Arithmetic(NamedTuple):
    """The functions of one implementation; each takes and returns binary64."""

    exp2: Callable[[Any], Any]
    """2^t for abs(t) <= 1000."""
    log2: Callable[[Any], Any]
    """log2 x for x >= 2^-1022; -inf for 0."""
    exp: Callable[[Any], Any]
    """e^x for abs(x) <= 690."""
    ln: Callable[[Any], Any]
    """ln x for x >= 2^-1022; -inf for 0."""
    power: Callable[[Any, Any], Any]
    """x^y for 0 <= x <= 1 and y > 0; at least 2^-1000."""


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def arithmetic(
    *,
    rint: Callable[[Any], Any],
    power_of_two: Callable[[Any], Any],
    split: Callable[[Any], tuple[Any, Any]],
    where: Callable[[Any, Any, Any], Any],
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = _same,
) -> Arithmetic:
    """Make the functions of one implementation.

    Args: rint, to the nearest whole number, ties to even; power_of_two, 2^n of a whole n; split, x > 0 as m and n with
    x = m 2^n and 1/2 <= m < 1 (anything for 0); where, the second or the third by the first; compiled, a decorator.
    """

    @compiled
    def exp2(t: Any) -> Any:
        n = rint(t)
        f = t - n
        p = _Q[0]
        for k in range(1, 10):
            p = p * f + _Q[k]
        return (p * f + 1.0) * power_of_two(n)

    @compiled
    def log2(x: Any) -> Any:
        m, n = split(x)
        is_low = m < _SQRT_HALF
        m = where(is_low, 2.0 * m, m)
        n = where(is_low, n - 1.0, n)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        p = _ATANH[0]
        for k in range(1, 12):
            p = p * z + _ATANH[k]
        return where(x > 0.0, p * s + n, -np.inf)

    @compiled
    def exp(x: Any) -> Any:
        return exp2(x * LOG2_E)

    @compiled
    def ln(x: Any) -> Any:
        return log2(x) * LN_2

    @compiled
    def power(x: Any, y: Any) -> Any:
        t = y * log2(x)
        return exp2(where(t > COLDEST_EXPONENT, t, COLDEST_EXPONENT))

    return Arithmetic(exp2, log2, exp, ln, power)


def _power_of_two(n: Any) -> NDArray[np.float64]:
    return np.ldexp(1.0, np.asarray(n).astype(np.int64))


exp2, log2, exp, ln, power = arithmetic(rint=np.rint, power_of_two=_power_of_two, split=np.frexp, where=np.where)
"""The functions of `Arithmetic`, for numpy's numbers and arrays."""
