"""Masses as whole numbers in Triton: `sampling.masses` and `sampling.arithmetic`, to the operation.

Here nothing is fused: the law is in additions, multiplications and divisions.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import _ATANH, _Q, _SQRT_HALF, COLDEST_EXPONENT, LOG2_E
from samplerd_server.sampling.masses import LOWEST

__all__ = ["exp_of", "exponents_of", "log2_of", "mass_of", "power_of", "power_of_two", "round_off"]

_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9 = (tl.constexpr(value) for value in _Q)
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8, _A9, _A10, _A11 = (tl.constexpr(value) for value in _ATANH)
_LOW, _LEAST, _LOG2_E = tl.constexpr(_SQRT_HALF), tl.constexpr(LOWEST), tl.constexpr(LOG2_E)
_COLDEST_EXPONENT = tl.constexpr(COLDEST_EXPONENT)
_ROUND, _WHOLE = tl.constexpr(1.5 * 2.0**52), tl.constexpr(2.0**51)


@triton.jit
def _exp2(t):
    n = (t + _ROUND) - _ROUND
    f = t - n
    p = f * _Q0 + _Q1
    p = p * f + _Q2
    p = p * f + _Q3
    p = p * f + _Q4
    p = p * f + _Q5
    p = p * f + _Q6
    p = p * f + _Q7
    p = p * f + _Q8
    p = p * f + _Q9
    return (p * f + 1.0) * ((n.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def exp_of(x):
    """Compute e^x as float64 for abs(x) <= 690."""
    return _exp2(x * _LOG2_E)


@triton.jit
def power_of_two(n):
    """Make 2^n as float64 of an int64."""
    return ((n + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def round_off(x):
    """Round float64 numbers of 0 to 2^62 to the nearest int64, ties to even."""
    return tl.where(x < _WHOLE, (x + _ROUND) - _ROUND, x).to(tl.int64)


@triton.jit
def log2_of(x):
    """Compute log2 x as float64 for x >= 2^-1022; see `sampling.arithmetic`."""
    bits = x.to(tl.int64, bitcast=True)
    n = ((bits >> 52) - 1022).to(tl.float64)
    m = ((bits & 0xFFFFFFFFFFFFF) | (0x3FE << 52)).to(tl.float64, bitcast=True)
    is_low = m < _LOW
    m = tl.where(is_low, 2.0 * m, m)
    n = tl.where(is_low, n - 1.0, n)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = z * _A0 + _A1
    p = p * z + _A2
    p = p * z + _A3
    p = p * z + _A4
    p = p * z + _A5
    p = p * z + _A6
    p = p * z + _A7
    p = p * z + _A8
    p = p * z + _A9
    p = p * z + _A10
    p = p * z + _A11
    return p * s + n


@triton.jit
def power_of(x, y):
    """Compute x^y as float64 for 0 < x <= 1 and y > 0; at least 2^-1000."""
    t = y * log2_of(x)
    return _exp2(tl.where(t > _COLDEST_EXPONENT, t, _COLDEST_EXPONENT))


@triton.jit
def _clip(t):
    t = tl.where(t > _LEAST, t, _LEAST)
    return tl.where(t < 0.0, t, 0.0)


@triton.jit
def exponents_of(y, top, temperature, is_weights):
    """Compute log2 of the masses of numbers relative to the largest, at least LOWEST; see `kernels.units.exponent`."""
    wide, largest, judged = y.to(tl.float64), top.to(tl.float64), tl.maximum(temperature, 1e-300)
    if is_weights != 0:
        t = _clip(log2_of(wide / largest) / judged)
    else:
        t = _clip((wide - largest) * tl.minimum(tl.full((), _LOG2_E, tl.float64) / judged, 1e300))
    return t


@triton.jit
def mass_of(y, top, temperature, shift, is_weights):
    """Compute masses, int64, of numbers y that can be drawn, the largest of the row being `top`; T > 0."""
    unit = (tl.full((), 1, tl.int64) << shift).to(tl.float64)
    if (is_weights != 0) & (temperature == 1):
        m = y.to(tl.float64) / top.to(tl.float64)
    else:
        m = _exp2(exponents_of(y, top, temperature, is_weights))
    return round_off(m * unit)
