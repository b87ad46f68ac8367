"""Powers of two and logarithms as plain arithmetic, the same bits on every machine.

Rule 1: range reduction by rint, then Horner's rule in explicit fused multiply-adds: every operation is rounded once,
so that the result does not depend on the vector width or on whose libm is installed. Rule 2: the coefficients are those
of the Taylor series of 2^f, ln(2)^k / k!, for abs(f) <= 1/2; its remainder there is 5e-9 after f^7 (binary32 rounds at
6e-8) and 4e-18 after f^13 (binary64 rounds at 1e-16). The series begins with 1, so that 2^0 is 1 exactly.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import math

import numpy as np

from samplerd_server.sampling.kernels.compile import as_bits64, as_float, as_float64, fma32, fma64, jit, rint32, rint64

__all__ = ["LN_2", "LOG2_E", "exp", "exp2", "exp2_32", "ln", "log2", "log_add"]

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453

_S1, _S2, _S3, _S4, _S5, _S6, _S7 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 8))
_D = tuple(math.log(2) ** k / math.factorial(k) for k in range(13, 0, -1))
_ATANH = tuple(2 * LOG2_E / (2 * k + 1) for k in range(11, -1, -1))
"""2 log2(e) atanh(s) = log2((1 + s) / (1 - s)); with abs(s) < 0.172 the remainder after s^23 is 1e-18."""
_ONE, _FLUSH = np.float32(1), np.float32(-127)
_SQRT2_BITS = 0x6A09E667F3BCD
"""Mantissa of sqrt(2)."""


@jit
def exp2_32(t):
    """Compute 2^t as float32 for t <= 127 or so, not NaN; 0 below 2^-126. Within 1.5 units in the last place."""
    t = t if t > _FLUSH else _FLUSH
    n = rint32(t)
    f = t - n
    p = fma32(_S7, f, _S6)
    p = fma32(p, f, _S5)
    p = fma32(p, f, _S4)
    p = fma32(p, f, _S3)
    p = fma32(p, f, _S2)
    p = fma32(p, f, _S1)
    p = fma32(p, f, _ONE)
    return p * as_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


@jit
def exp2(t):
    """Compute 2^t as float64 for t <= 1023, not NaN; 0 below 2^-1022. Within 1.5 units in the last place."""
    t = t if t > -1023.0 else -1023.0
    n = rint64(t)
    f = t - n
    p = _D[0]
    for k in range(1, 13):
        p = fma64(p, f, _D[k])
    p = fma64(p, f, 1.0)
    return p * as_float64((np.int64(n) + 1023) << 52)


@jit
def log2(x):
    """Compute log2 x as float64 for x >= 0; -inf for 0. Within 2 units in the last place of max(1, abs(log2 x))."""
    if x <= 0.0:
        return -np.inf
    scale = 0
    if x < 2.2250738585072014e-308:
        x *= 2.0**54
        scale = 54
    bits = as_bits64(x)
    n = (bits >> 52) - 1023
    mantissa = bits & 0xFFFFFFFFFFFFF
    if mantissa > _SQRT2_BITS:
        n += 1
        mantissa |= 0x3FE << 52
    else:
        mantissa |= 0x3FF << 52
    m = as_float64(mantissa)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = _ATANH[0]
    for k in range(1, 12):
        p = fma64(p, z, _ATANH[k])
    return fma64(p, s, np.float64(n - scale))


@jit
def exp(x):
    """Compute e^x as float64 for x <= 709; 0 below 2^-1022."""
    return exp2(x * LOG2_E) if x > -745.0 else 0.0


@jit
def ln(x):
    """Compute the natural logarithm as float64; -inf for 0."""
    return log2(x) * LN_2


@jit
def log_add(a, b):
    """Compute ln(e^a + e^b) as float64; either may be -inf, or NaN, which stays."""
    if np.isnan(a) or np.isnan(b):
        return np.nan
    high = max(a, b)
    low = min(a, b)
    if low == -np.inf:
        return high
    return high + ln(1.0 + exp(low - high))
