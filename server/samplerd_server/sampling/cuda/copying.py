"""Copies of rows that are changed: guided if they have a guidance row, as logits if they become such, and masked.

Law: `sampling.guidance` and `kernels/adjust.py`, to the bit. A program copies a row by itself.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.core.enums import RowErrorReason, Step
from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.change_record import Change
from samplerd_server.sampling.cuda.masses import log2_of, mass_of
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, load_numbers
from samplerd_server.sampling.cuda.smooth import to_logits
from samplerd_server.sampling.cuda.survey import survey

__all__ = ["copy_row", "largest_of_copy", "survey_guidance"]

_PITCH, _LANES = tl.constexpr(PITCH), tl.constexpr(128)
_ADDRESS, _DTYPE, _FIRST_BLOCK = (
    tl.constexpr(Field.ADDRESS),
    tl.constexpr(Field.DTYPE),
    tl.constexpr(Field.FIRST_BLOCK),
)
_BITMASK, _BITMASK_LEN = tl.constexpr(Change.BITMASK), tl.constexpr(Change.BITMASK_LEN)
_ALLOWED, _ALLOWED_LEN = tl.constexpr(Change.ALLOWED), tl.constexpr(Change.ALLOWED_LEN)
_FORBIDDEN, _FORBIDDEN_LEN = tl.constexpr(Change.FORBIDDEN), tl.constexpr(Change.FORBIDDEN_LEN)
_GUIDANCE, _GUIDANCE_SCALE = tl.constexpr(Change.GUIDANCE), tl.constexpr(Change.GUIDANCE_SCALE)
_GUIDANCE_SHIFT = tl.constexpr(Change.GUIDANCE_SHIFT)
_NOTHING, _GUIDANCE_STEP = tl.constexpr(int(RowErrorReason.NOTHING_TO_DRAW)), tl.constexpr(int(Step.GUIDANCE))
_MASK_STEP = tl.constexpr(int(Step.MASK))
_LARGEST, _LN_2 = tl.constexpr(3.4028234663852886e38), tl.constexpr(LN_2)


@triton.jit
def survey_guidance(records, change, maxima, bits, width, is_weights, reason, where):
    """Tell what is wrong with a row once its guidance row is looked at, too.

    reason, where: what is wrong with the row itself. Returns both, and the largest number of the guidance row.
    """
    record = records + tl.load(change + _GUIDANCE) * _PITCH
    first_block = tl.load(record + _FIRST_BLOCK)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    address, dtype = tl.load(record + _ADDRESS), tl.load(record + _DTYPE).to(tl.int32)
    own, at, top = survey(address, dtype, width, maxima + first_block, bits + first_block, blocks, is_weights)
    is_empty = own == _NOTHING
    is_first = ((reason == 0) & (own != 0)) | ((reason == _NOTHING) & (own != 0) & (own != _NOTHING))
    where = tl.where(is_first, tl.where(is_empty, _GUIDANCE_STEP, -1 - at), where)
    return tl.where(is_first, own, reason), where, top


@triton.jit
def _normaliser(address, dtype, width, top, shift, is_weights):
    """Compute ln of the sum of exp(x) of a row whose largest number is `top`; see `sampling.guidance`."""
    largest = to_logits(top, is_weights != 0)
    total = tl.full((), 0, tl.int64)
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    for low in range(0, width, BLOCK_SIZE):
        at = low + tl.arange(0, BLOCK_SIZE)
        x = to_logits(load_numbers(address, dtype, at, width, fill), is_weights != 0)
        one = tl.full((), 1.0, tl.float64)
        total += tl.sum(mass_of(x, largest, one, shift, is_weights * 0), axis=0)
    bits = log2_of(total.to(tl.float64)) - shift.to(tl.float64)
    return largest.to(tl.float64) + bits * _LN_2


@triton.jit
def _guide(x, y, own, other, scale):
    """Guide logits x by logits y; see `sampling.guidance`."""
    c, u = x.to(tl.float64) - own, y.to(tl.float64) - other
    logit = (c - u) * scale + u
    logit = tl.where(logit > _LARGEST, _LARGEST, logit)
    logit = tl.where(logit < -_LARGEST, -_LARGEST, logit)
    is_allowed = (c > float("-inf")) & (u > float("-inf"))
    return tl.where(is_allowed, logit, float("-inf")).to(tl.float32)


@triton.jit
def _load(address, dtype, at, width, fill, is_converted, by_address, by_dtype, own, other, scale):
    """Load numbers of a row, as logits if they become such, and guided if there is a guidance row."""
    x = to_logits(load_numbers(address, dtype, at, width, fill), is_converted)
    if by_address != 0:
        y = to_logits(load_numbers(by_address, by_dtype, at, width, fill), is_converted & (fill == 0))
        x = _guide(x, y, own, other, scale)
    return x


@triton.jit
def _forbid(change, never, copy):
    """Forbid the tokens that bad_words and no_repeat_ngram_size do."""
    forbidden = tl.load(change + _FORBIDDEN).to(tl.pointer_type(tl.int32))
    count = tl.load(change + _FORBIDDEN_LEN)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        token = tl.load(forbidden + at, mask=at < count, other=0)
        tl.store(copy + token, tl.where(at < 0, 0.0, never), mask=at < count)
    tl.debug_barrier()


@triton.jit
def largest_of_copy(copy, width):
    """Find the largest number of a copy."""
    top = tl.full((), float("-inf"), tl.float32)
    for low in range(0, width, BLOCK_SIZE):
        at = low + tl.arange(0, BLOCK_SIZE)
        top = tl.maximum(top, tl.max(tl.load(copy + at, mask=at < width, other=float("-inf")), axis=0))
    return top


@triton.jit
def copy_row(records, change, address, dtype, width, is_weights, is_converted, top, by_top, copy):
    """Copy a row: guided, and with what may not be drawn forbidden.

    is_converted: whether weights become logits; top, by_top: the largest number of the row and of its guidance row.
    Returns a reason, 0 = nothing is wrong, and its detail.
    """
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    never = tl.where(is_converted, float("-inf"), fill)
    by = tl.load(change + _GUIDANCE)
    by_address, by_dtype = tl.full((), 0, tl.int64), dtype
    own, other = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
    scale = tl.load(change + _GUIDANCE_SCALE).to(tl.float64, bitcast=True)
    if by >= 0:
        shift = tl.load(change + _GUIDANCE_SHIFT)
        by_address, by_dtype = tl.load(records + by * _PITCH + _ADDRESS), tl.load(records + by * _PITCH + _DTYPE)
        by_dtype = by_dtype.to(tl.int32)
        own = _normaliser(address, dtype, width, top, shift, is_weights)
        other = _normaliser(by_address, by_dtype, width, by_top, shift, is_weights)
    words, words_len = tl.load(change + _BITMASK).to(tl.pointer_type(tl.int32)), tl.load(change + _BITMASK_LEN)
    allowed, allowed_len = tl.load(change + _ALLOWED).to(tl.pointer_type(tl.int32)), tl.load(change + _ALLOWED_LEN)
    guided, left = tl.full((), float("-inf"), tl.float32), tl.full((), float("-inf"), tl.float32)
    for low in range(0, width, BLOCK_SIZE):
        at = low + tl.arange(0, BLOCK_SIZE)
        x = _load(address, dtype, at, width, fill, is_converted, by_address, by_dtype, own, other, scale)
        guided = tl.maximum(guided, tl.max(tl.where(at < width, x, float("-inf")), axis=0))
        if words_len >= 0:
            word = tl.load(words + (at >> 5), mask=(at >> 5) < words_len, other=0)
            x = tl.where(((word >> (at & 31)) & 1) != 0, x, never)
        if allowed_len >= 0:
            x = tl.where(at < 0, x, never)
        tl.store(copy + at, x, mask=at < width)
        left = tl.maximum(left, tl.max(tl.where(at < width, x, float("-inf")), axis=0))
    tl.debug_barrier()
    for low in range(0, tl.maximum(allowed_len, 0), _LANES):
        at = low + tl.arange(0, _LANES)
        mine = at < allowed_len
        token = tl.load(allowed + at, mask=mine, other=0)
        x = _load(address, dtype, token, width, fill, is_converted, by_address, by_dtype, own, other, scale)
        tl.store(copy + token, x, mask=mine)
        left = tl.maximum(left, tl.max(tl.where(mine, x, float("-inf")), axis=0))
    tl.debug_barrier()
    if tl.load(change + _FORBIDDEN_LEN) > 0:
        _forbid(change, never, copy)
        left = largest_of_copy(copy, width)
    reason, where = width * 0, width * 0
    if (by >= 0) & (guided == float("-inf")):
        reason, where = reason + _NOTHING, where + _GUIDANCE_STEP
    elif left <= never:
        reason, where = reason + _NOTHING, where + _MASK_STEP
    return reason, where
