"""adaptive-p and skew: what the filters kept gets new logits.

Law: `sampling.shapes`, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.judging import as_logits
from samplerd_server.sampling.cuda.lists import largest_of, weigh_list
from samplerd_server.sampling.cuda.rows import Field
from samplerd_server.sampling.cuda.skew import skew_list
from samplerd_server.sampling.shapes import PEAK, SHARPNESS, WIDTH

__all__ = ["shape_list"]

_LANES = tl.constexpr(512)
_SHIFT, _TARGET, _SKEW = tl.constexpr(Field.SHIFT), tl.constexpr(Field.TARGET), tl.constexpr(Field.SKEW)
_WIDTH, _PEAK, _SHARPNESS = tl.constexpr(WIDTH), tl.constexpr(PEAK), tl.constexpr(SHARPNESS)


@triton.jit
def _adapt(record, numbers, masses, count, total):
    """Give a list new logits by how far its probabilities lie from the row's target."""
    target = tl.load(record + _TARGET).to(tl.float64, bitcast=True)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        p = tl.load(masses + at, mask=at < count, other=0).to(tl.float64) / total.to(tl.float64)
        d = tl.abs(p - target) / tl.full((), _WIDTH, tl.float64)
        logit = -(d * d * _SHARPNESS) / (d + 1.0) + _PEAK
        tl.store(numbers + at, logit.to(tl.float32), mask=at < count)
    tl.debug_barrier()


@triton.jit
def shape_list(record, numbers, masses, keys, count, temperature, is_weights):
    """Give a list, of any kind at a temperature above 0, new logits. keys: int64 scratch.

    With adaptive-p its masses before are left in masses.
    """
    if is_weights != 0:
        for low in range(0, count, _LANES):
            at = low + tl.arange(0, _LANES)
            y = as_logits(tl.load(numbers + at, mask=at < count, other=1.0), is_weights)
            tl.store(numbers + at, y, mask=at < count)
        tl.debug_barrier()
    top, shift = largest_of(numbers, count), tl.load(record + _SHIFT)
    total = weigh_list(numbers, masses, count, top, temperature, shift, is_weights * 0)
    skew = tl.load(record + _SKEW).to(tl.float64, bitcast=True)
    if skew != 0:
        skew_list(numbers, masses, keys, count, total, top, temperature, shift, skew)
    else:
        _adapt(record, numbers, masses, count, total)
