"""What is wrong with a row that was measured, and its largest number."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no types and no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, is_bad, load_numbers

__all__ = ["survey", "top_of"]

_LANES = tl.constexpr(128)
_NAN, _INFINITE = tl.constexpr(int(RowErrorReason.NAN)), tl.constexpr(int(RowErrorReason.POSITIVE_INFINITY))
_NEGATIVE, _NOTHING = (
    tl.constexpr(int(RowErrorReason.NEGATIVE_WEIGHT)),
    tl.constexpr(int(RowErrorReason.NOTHING_TO_DRAW)),
)


@triton.jit
def _survey_blocks(maxima, bits, blocks, is_weights):
    """Find the first block that is at fault (`blocks` if none is) and the largest maximum of the others."""
    first_bad = blocks
    top = tl.full((), float("-inf"), tl.float32)
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        own = b < blocks
        maximum = tl.load(maxima + b, mask=own, other=float("-inf"))
        largest = tl.load(bits + b, mask=own, other=0).to(tl.uint32, bitcast=True)
        bad = own & is_bad(maximum, largest, is_weights)
        first_bad = tl.minimum(first_bad, tl.min(tl.where(bad, b, blocks), axis=0))
        top = tl.maximum(top, tl.max(tl.where(bad, float("-inf"), maximum), axis=0))
    return first_bad, top


@triton.jit
def top_of(maxima, blocks):
    """Find the largest maximum of a row without fault."""
    top = tl.full((), float("-inf"), tl.float32)
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        top = tl.maximum(top, tl.max(tl.load(maxima + b, mask=b < blocks, other=float("-inf")), axis=0))
    return top


@triton.jit
def _fault(x, at, width, is_weights):
    """Find the reason and the position of the first number of a bad block, at positions `at`, that is not allowed."""
    is_nan = x != x  # noqa: PLR0124  # NaN alone is not itself
    is_infinite = x == float("inf")
    is_fault = (is_nan | is_infinite | ((is_weights != 0) & (x < 0))) & (at < width)
    first = tl.min(tl.where(is_fault, at, width), axis=0)
    here = at == first
    reason = tl.where(is_nan, _NAN, tl.where(is_infinite, _INFINITE, _NEGATIVE))
    return tl.max(tl.where(here, reason, 0), axis=0), first


@triton.jit
def survey(address, dtype, width, maxima, bits, blocks, is_weights):
    """Tell what is wrong with a row that was measured: a reason, 0 = nothing, its detail, and the largest number."""
    first_bad, top = _survey_blocks(maxima, bits, blocks, is_weights)
    nothing = tl.where(is_weights != 0, 0.0, float("-inf"))
    reason, where = blocks * 0, blocks * 0
    if first_bad < blocks:
        at = first_bad * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        reason, where = _fault(load_numbers(address, dtype, at, width, 0.0), at, width, is_weights)
    elif top <= nothing:
        reason = where + _NOTHING
    return reason, where, top
