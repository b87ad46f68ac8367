"""Units of whole sums in a tree, powers of two: see `tree.py`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import exp2, log2
from samplerd_server.sampling.kernels.exp2 import LN_2

__all__ = ["digits", "exponent_of_two", "gap", "units", "whole_number"]

_GRAIN, _FARTHEST, _FAR = tl.constexpr(2.0**51), tl.constexpr(1e250), tl.constexpr(1e6)
_WHOLE, _WHOLE_BITS = tl.constexpr(2.0**52), tl.constexpr(0x4330000000000000)
_ROUND, _LARGE = tl.constexpr(1.5 * 2.0**52), tl.constexpr(2.0**51)
_LN_2 = tl.constexpr(LN_2)


@triton.jit
def whole_number(x):
    """Round 0 <= x < 2^52 to a whole number, ties to even."""
    return (x + _WHOLE).to(tl.int64, bitcast=True) - _WHOLE_BITS


@triton.jit
def exponent_of_two(x):
    """Find the e with 2^(e - 1) <= x < 2^e of normal float64 x > 0."""
    return (x.to(tl.int64, bitcast=True) >> 52) - 1022


@triton.jit
def gap(a, b):
    """Compute a - b of two bases as a whole number; one that is far away is as good as infinite."""
    own = a - b
    return tl.where(own > _FAR, _FAR, tl.where(own < -_FAR, -_FAR, own)).to(tl.int64)


@triton.jit
def digits(shift):
    """Limit a shift of an int64 to what there is."""
    return tl.minimum(tl.maximum(shift, 0), 63)


@triton.jit
def units(maximum, top, c, is_weights):
    """Choose the units of blocks by their maxima, float64: their bases and grains."""
    if c == 0:
        base = exponent_of_two(maximum).to(tl.float64)
        grain = maximum * 0.0 + _GRAIN
    else:
        if is_weights != 0:
            exponent = log2(maximum / top) * (tl.minimum(c, _FARTHEST) * _LN_2)
        else:
            exponent = (maximum - top) * tl.minimum(c, _FARTHEST)
        base = tl.where(tl.abs(exponent) < _LARGE, (exponent + _ROUND) - _ROUND, exponent)
        grain = exp2(exponent - base) * _GRAIN
    return base, grain
