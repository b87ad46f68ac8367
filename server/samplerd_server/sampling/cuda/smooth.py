"""Quadratic smoothing: numbers divided by the temperature, and bent.

Law: `sampling.smoothing`, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.lists import largest_of
from samplerd_server.sampling.cuda.masses import log2_of
from samplerd_server.sampling.smoothing import FARTHEST

__all__ = ["bent", "clamp", "smooth_list", "to_logits"]

_LANES, _LN_2 = tl.constexpr(512), tl.constexpr(LN_2)
_FARTHEST, _LARGEST = tl.constexpr(FARTHEST), tl.constexpr(3.4028234663852886e38)


@triton.jit
def clamp(x):
    """Bring what became of a finite logit, float64, into float32."""
    return tl.minimum(tl.maximum(x, -_LARGEST), _LARGEST)


@triton.jit
def to_logits(x, is_converted):
    """Turn weights into logits where is_converted says so; those of 0 become -inf."""
    if is_converted:
        wide = x.to(tl.float64)
        x = tl.where(wide > 0, log2_of(wide) * _LN_2, float("-inf")).to(tl.float32)
    return x


@triton.jit
def bent(y, top, temperature, factor, curve):
    """Bend logits y, of which `top`, float64, is the largest."""
    distance = (y.to(tl.float64) - top) / temperature
    distance = tl.where(distance > _FARTHEST, distance, _FARTHEST)
    own = ((curve - 1.0) * 0.5 * distance - (3.0 - curve) * 0.5) * (distance * distance) * factor
    return tl.where(y == float("-inf"), y, clamp(own).to(tl.float32))


@triton.jit
def smooth_list(numbers, count, temperature, factor, curve, is_weights):
    """Bend float32[count] in place; what was weights is logits then. Past their end nothing is read or written."""
    top = to_logits(largest_of(numbers, count), is_weights != 0).to(tl.float64)
    tl.debug_barrier()
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        y = to_logits(tl.load(numbers + at, mask=at < count, other=0.0), is_weights != 0)
        tl.store(numbers + at, bent(y, top, temperature, factor, curve), mask=at < count)
    tl.debug_barrier()
