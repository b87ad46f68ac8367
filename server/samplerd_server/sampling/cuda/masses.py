"""Masses as whole numbers in Triton: `sampling.masses` and `sampling.arithmetic`, to the operation.

Here nothing is fused: the law is in additions, multiplications and divisions.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import _ATANH, _Q, _SQRT_HALF, LOG2_E
from samplerd_server.sampling.masses import LOWEST

__all__ = ["mass_of"]

_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9 = (tl.constexpr(value) for value in _Q)
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8, _A9, _A10, _A11 = (tl.constexpr(value) for value in _ATANH)
_LOW, _LEAST, _LOG2_E = tl.constexpr(_SQRT_HALF), tl.constexpr(LOWEST), tl.constexpr(LOG2_E)
_ROUND = tl.constexpr(1.5 * 2.0**52)


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
def _log2(x):
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
def mass_of(y, top, temperature, shift, is_weights):
    """Compute masses, int64, of numbers y that can be drawn, the largest of the row being `top`; T > 0."""
    unit = (tl.full((), 1, tl.int64) << shift).to(tl.float64)
    judged = tl.maximum(temperature, 1e-300)
    wide, largest = y.to(tl.float64), top.to(tl.float64)
    if is_weights != 0:
        parts = wide / largest
        if judged == 1:
            m = parts
        else:
            t = _log2(parts) / judged
            t = tl.where(t > _LEAST, t, _LEAST)
            m = _exp2(tl.where(t < 0.0, t, 0.0))
    else:
        t = (wide - largest) * tl.minimum(tl.full((), _LOG2_E, tl.float64) / judged, 1e300)
        t = tl.where(t > _LEAST, t, _LEAST)
        m = _exp2(tl.where(t < 0.0, t, 0.0))
    scaled = m * unit
    return ((scaled + _ROUND) - _ROUND).to(tl.int64)
