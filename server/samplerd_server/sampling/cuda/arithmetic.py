"""Powers of two, logarithms and noise in Triton: those of `kernels/exp2.py` and `kernels/philox.py`, to the operation.

Rule 1: every operation is the one of the CPU's kernels, in the same order, so that the bits are the same. A fused
multiply-add is written out as `tl.fma`, and kernels are compiled without contraction. Rule 2: nothing of `tl.exp`,
`tl.log` or a division of binary32, which the compiler may approximate; binary64 divides to the nearest.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import math

import numpy as np
import triton
import triton.language as tl

from samplerd_server.sampling.kernels.exp2 import LN_2, LOG2_E

__all__ = ["exp", "exp2", "exp2_32", "ln", "log2", "uniform"]

_SINGLE = [float(np.float32(math.log(2) ** k / math.factorial(k))) for k in range(1, 8)]
_S1, _S2, _S3, _S4, _S5, _S6, _S7 = (tl.constexpr(value) for value in _SINGLE)
_DOUBLE = [math.log(2) ** k / math.factorial(k) for k in range(13, 0, -1)]
_D13, _D12, _D11, _D10, _D9, _D8, _D7, _D6, _D5, _D4, _D3, _D2, _D1 = (tl.constexpr(value) for value in _DOUBLE)
_HALVES = [2 * LOG2_E / (2 * k + 1) for k in range(11, -1, -1)]
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8, _A9, _A10, _A11 = (tl.constexpr(value) for value in _HALVES)

_ROUND_32 = tl.constexpr(1.5 * 2.0**23)
"""Added and taken away again it rounds to a whole number; in between, the low bits are that number."""
_ROUND_64 = tl.constexpr(1.5 * 2.0**52)
_SQRT2_BITS = tl.constexpr(0x6A09E667F3BCD)
_LEAST_NORMAL = tl.constexpr(2.2250738585072014e-308)
_BELOW_1 = tl.constexpr(1.0 - 2.0**-53)
_LN_2, _LOG2_E = tl.constexpr(LN_2), tl.constexpr(LOG2_E)


@triton.jit
def exp2_32(t):
    """Compute 2^t as float32; see `kernels.exp2.exp2_32`."""
    t = tl.where(t > -127.0, t, -127.0)
    rounded = t + _ROUND_32
    f = t - (rounded - _ROUND_32)
    p = tl.fma(tl.full(f.shape, _S7, tl.float32), f, tl.full(f.shape, _S6, tl.float32))
    p = tl.fma(p, f, tl.full(f.shape, _S5, tl.float32))
    p = tl.fma(p, f, tl.full(f.shape, _S4, tl.float32))
    p = tl.fma(p, f, tl.full(f.shape, _S3, tl.float32))
    p = tl.fma(p, f, tl.full(f.shape, _S2, tl.float32))
    p = tl.fma(p, f, tl.full(f.shape, _S1, tl.float32))
    p = tl.fma(p, f, tl.full(f.shape, 1.0, tl.float32))
    return p * ((rounded.to(tl.int32, bitcast=True) << 23) + 0x3F800000).to(tl.float32, bitcast=True)


@triton.jit
def _step(p, f, d: tl.constexpr):
    return tl.fma(p, f, tl.full(f.shape, d, tl.float64))


@triton.jit
def exp2(t):
    """Compute 2^t as float64; see `kernels.exp2.exp2`."""
    t = tl.where(t > -1023.0, t, tl.full(t.shape, -1023.0, tl.float64))
    n = (t + _ROUND_64) - _ROUND_64
    f = t - n
    p = _step(tl.full(f.shape, _D13, tl.float64), f, _D12)
    p = _step(p, f, _D11)
    p = _step(p, f, _D10)
    p = _step(p, f, _D9)
    p = _step(p, f, _D8)
    p = _step(p, f, _D7)
    p = _step(p, f, _D6)
    p = _step(p, f, _D5)
    p = _step(p, f, _D4)
    p = _step(p, f, _D3)
    p = _step(p, f, _D2)
    p = _step(p, f, _D1)
    p = _step(p, f, 1.0)
    return p * ((n.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def log2(x):
    """Compute log2 x as float64; see `kernels.exp2.log2`."""
    is_small = x < _LEAST_NORMAL
    bits = tl.where(is_small, x * 18014398509481984.0, x).to(tl.int64, bitcast=True)
    n = (bits >> 52) - 1023
    mantissa = bits & 0xFFFFFFFFFFFFF
    is_high = mantissa > _SQRT2_BITS
    n = tl.where(is_high, n + 1, n) - tl.where(is_small, 54, 0)
    m = tl.where(is_high, mantissa | (0x3FE << 52), mantissa | (0x3FF << 52)).to(tl.float64, bitcast=True)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = _step(tl.full(z.shape, _A0, tl.float64), z, _A1)
    p = _step(p, z, _A2)
    p = _step(p, z, _A3)
    p = _step(p, z, _A4)
    p = _step(p, z, _A5)
    p = _step(p, z, _A6)
    p = _step(p, z, _A7)
    p = _step(p, z, _A8)
    p = _step(p, z, _A9)
    p = _step(p, z, _A10)
    p = _step(p, z, _A11)
    return tl.where(x > 0.0, tl.fma(p, s, n.to(tl.float64)), float("-inf"))


@triton.jit
def exp(x):
    """Compute e^x as float64; see `kernels.exp2.exp`."""
    return tl.where(x > -745.0, exp2(x * _LOG2_E), 0.0)


@triton.jit
def ln(x):
    """Compute the natural logarithm as float64; see `kernels.exp2.ln`."""
    return log2(x) * _LN_2


@triton.jit
def uniform(seed, draw, row, purpose):
    """Make a float64 in (0, 1) of scalars: seed and draw uint64, row and purpose uint32; see `sampling.noise`."""
    c0, c1, c2, c3 = draw.to(tl.uint32), (draw >> 32).to(tl.uint32), row, purpose
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        high_0 = tl.umulhi(c0, tl.full(c0.shape, 0xD2511F53, tl.uint32))
        low_0 = c0 * tl.full(c0.shape, 0xD2511F53, tl.uint32)
        high_1 = tl.umulhi(c2, tl.full(c0.shape, 0xCD9E8D57, tl.uint32))
        low_1 = c2 * tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0 = k0 + tl.full(k0.shape, 0x9E3779B9, tl.uint32)
        k1 = k1 + tl.full(k1.shape, 0xBB67AE85, tl.uint32)
    whole = ((c0 >> 5).to(tl.uint64) << 26) | (c1 >> 6).to(tl.uint64)
    u = (whole.to(tl.float64) + 0.5) * 1.1102230246251565e-16
    return tl.where(u < 1.0, u, _BELOW_1)
