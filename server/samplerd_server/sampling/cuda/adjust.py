"""Steps 2 to 4: rows with a mask, a bias or penalties are copied, and changed in the copy.

Law: `kernels/adjust.py`, to the bit. A program takes a row that `measure` has found without fault. The tokens of
history are counted by comparing each with all, so that no memory as long as the row is cleared for them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from enum import IntEnum

import triton
import triton.language as tl

from samplerd_server.core.enums import RowErrorReason, Step
from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.masses import log2_of
from samplerd_server.sampling.cuda.pick import survey
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, load_numbers

__all__ = ["CHANGES_PITCH", "Change", "adjust"]


class Change(IntEnum):
    """Places in what is said of a row's changes, int64[CHANGES_PITCH]."""

    SOURCE = 0
    """The record of the row as it was sent."""
    FIRST = 1
    """The record of the changed row, which says where its copy begins."""
    SECOND = 2
    """Another record of the copy, at another temperature; -1 = there is none."""
    BITMASK = 3
    """The address of int32[BITMASK_LEN]."""
    BITMASK_LEN = 4
    """-1 = there is none."""
    ALLOWED = 5
    ALLOWED_LEN = 6
    BIAS_IDS = 7
    BIAS_VALUES = 8
    """The address of float32[BIAS_LEN]."""
    BIAS_LEN = 9
    HISTORY = 10
    HISTORY_LEN = 11
    """0 where nothing is penalised."""
    REPETITION_FROM = 12
    """The first token of history that the repetition penalty looks at."""
    FREQUENCY_FROM = 13
    PRESENCE_FROM = 14
    REPETITION = 15
    """The bits of a float64, as of the two that follow."""
    FREQUENCY = 16
    PRESENCE = 17


CHANGES_PITCH = 18

_PITCH, _CHANGES, _LANES = tl.constexpr(PITCH), tl.constexpr(CHANGES_PITCH), tl.constexpr(128)
_OTHERS = tl.constexpr(8)
"""Tokens that 128 are compared with at a time: as many as registers hold."""
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _FIRST_BLOCK, _ROW = (
    tl.constexpr(Field.IS_WEIGHTS),
    tl.constexpr(Field.FIRST_BLOCK),
    tl.constexpr(Field.ROW),
)
_SOURCE, _FIRST, _SECOND = tl.constexpr(Change.SOURCE), tl.constexpr(Change.FIRST), tl.constexpr(Change.SECOND)
_BITMASK, _BITMASK_LEN = tl.constexpr(Change.BITMASK), tl.constexpr(Change.BITMASK_LEN)
_ALLOWED, _ALLOWED_LEN = tl.constexpr(Change.ALLOWED), tl.constexpr(Change.ALLOWED_LEN)
_BIAS_IDS, _BIAS_VALUES, _BIAS_LEN = (
    tl.constexpr(Change.BIAS_IDS),
    tl.constexpr(Change.BIAS_VALUES),
    tl.constexpr(Change.BIAS_LEN),
)
_HISTORY, _HISTORY_LEN = tl.constexpr(Change.HISTORY), tl.constexpr(Change.HISTORY_LEN)
_REPETITION_FROM, _FREQUENCY_FROM, _PRESENCE_FROM = (
    tl.constexpr(Change.REPETITION_FROM),
    tl.constexpr(Change.FREQUENCY_FROM),
    tl.constexpr(Change.PRESENCE_FROM),
)
_REPETITION, _FREQUENCY, _PRESENCE = (
    tl.constexpr(Change.REPETITION),
    tl.constexpr(Change.FREQUENCY),
    tl.constexpr(Change.PRESENCE),
)
_NOTHING = tl.constexpr(int(RowErrorReason.NOTHING_TO_DRAW))
_MASK_STEP, _BIAS_STEP = tl.constexpr(int(Step.MASK)), tl.constexpr(int(Step.BIAS))
_LARGEST, _LN_2 = tl.constexpr(3.4028234663852886e38), tl.constexpr(LN_2)


@triton.jit
def _clamp(x):
    return tl.minimum(tl.maximum(x, -_LARGEST), _LARGEST)


@triton.jit
def _to_numbers(x, is_converted):
    """Turn weights into logits where biases or penalties follow."""
    if is_converted:
        wide = x.to(tl.float64)
        x = tl.where(wide > 0, log2_of(wide) * _LN_2, float("-inf")).to(tl.float32)
    return x


@triton.jit
def _copy(change, address, dtype, width, never, is_converted, copy):
    """Copy a row, with its mask. Returns the largest number of the copy, -inf where nothing is allowed."""
    words, words_len = tl.load(change + _BITMASK).to(tl.pointer_type(tl.int32)), tl.load(change + _BITMASK_LEN)
    allowed, allowed_len = tl.load(change + _ALLOWED).to(tl.pointer_type(tl.int32)), tl.load(change + _ALLOWED_LEN)
    top = tl.full((), float("-inf"), tl.float32)
    for low in range(0, width, BLOCK_SIZE):
        at = low + tl.arange(0, BLOCK_SIZE)
        x = load_numbers(address, dtype, at, width, never)
        if words_len >= 0:
            word = tl.load(words + (at >> 5), mask=(at >> 5) < words_len, other=0)
            x = tl.where(((word >> (at & 31)) & 1) != 0, x, never)
        if allowed_len >= 0:
            x = tl.where(at < 0, x, never)
        x = _to_numbers(x, is_converted)
        tl.store(copy + at, x, mask=at < width)
        top = tl.maximum(top, tl.max(tl.where(at < width, x, float("-inf")), axis=0))
    tl.debug_barrier()
    for low in range(0, tl.maximum(allowed_len, 0), _LANES):
        at = low + tl.arange(0, _LANES)
        own = at < allowed_len
        token = tl.load(allowed + at, mask=own, other=0)
        x = _to_numbers(load_numbers(address, dtype, token, width, never), is_converted)
        tl.store(copy + token, x, mask=own)
        top = tl.maximum(top, tl.max(tl.where(own, x, float("-inf")), axis=0))
    tl.debug_barrier()
    return top


@triton.jit
def _add_bias(change, copy):
    """Add the amounts of logit_bias."""
    ids = tl.load(change + _BIAS_IDS).to(tl.pointer_type(tl.int32))
    values = tl.load(change + _BIAS_VALUES).to(tl.pointer_type(tl.float32))
    count = tl.load(change + _BIAS_LEN)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        token = tl.load(ids + at, mask=at < count, other=0)
        x = tl.load(copy + token, mask=at < count, other=0.0).to(tl.float64)
        x = x + tl.load(values + at, mask=at < count, other=0.0).to(tl.float64)
        tl.store(copy + token, tl.where(x == float("-inf"), x, _clamp(x)).to(tl.float32), mask=at < count)
    tl.debug_barrier()


@triton.jit
def _largest(copy, width):
    top = tl.full((), float("-inf"), tl.float32)
    for low in range(0, width, BLOCK_SIZE):
        at = low + tl.arange(0, BLOCK_SIZE)
        top = tl.maximum(top, tl.max(tl.load(copy + at, mask=at < width, other=float("-inf")), axis=0))
    return top


@triton.jit
def _penalise(change, copy):
    """Penalise the tokens of history, each once: where it stands last."""
    history, length = tl.load(change + _HISTORY).to(tl.pointer_type(tl.int32)), tl.load(change + _HISTORY_LEN)
    from_repetition, from_frequency = tl.load(change + _REPETITION_FROM), tl.load(change + _FREQUENCY_FROM)
    from_presence = tl.load(change + _PRESENCE_FROM)
    repetition = tl.load(change + _REPETITION).to(tl.float64, bitcast=True)
    frequency = tl.load(change + _FREQUENCY).to(tl.float64, bitcast=True)
    presence = tl.load(change + _PRESENCE).to(tl.float64, bitcast=True)
    first = tl.minimum(tl.minimum(from_repetition, from_frequency), from_presence)
    for low in range(first, length, _LANES):
        at = low + tl.arange(0, _LANES)
        token = tl.load(history + at, mask=at < length, other=-1)
        often, is_repeated, is_present = (at * 0).to(tl.int32), (at * 0).to(tl.int32), (at * 0).to(tl.int32)
        later = (at * 0).to(tl.int32)
        for begin in range(first, length, _OTHERS):
            other_at = begin + tl.arange(0, _OTHERS)
            other = tl.load(history + other_at, mask=other_at < length, other=-2)
            same = (other[None, :] == token[:, None]).to(tl.int32)
            often += tl.sum(same * (other_at >= from_frequency).to(tl.int32)[None, :], axis=1)
            is_repeated += tl.sum(same * (other_at >= from_repetition).to(tl.int32)[None, :], axis=1)
            is_present += tl.sum(same * (other_at >= from_presence).to(tl.int32)[None, :], axis=1)
            later += tl.sum(same * (other_at[None, :] > at[:, None]).to(tl.int32), axis=1)
        own = (at < length) & (later == 0)
        number = tl.load(copy + token, mask=own, other=0.0)
        logit = number.to(tl.float64)
        factor = tl.where(is_repeated > 0, repetition, 1.0)
        is_divided = logit > 0
        logit = logit * tl.where(is_divided, 1.0, factor) / tl.where(is_divided, factor, 1.0)
        logit = _clamp(logit) - often.to(tl.float64) * frequency - tl.where(is_present > 0, presence, 0.0)
        is_finite = tl.abs(number) < float("inf")
        tl.store(copy + token, tl.where(is_finite, _clamp(logit).to(tl.float32), number), mask=own)
    tl.debug_barrier()


@triton.jit
def adjust(records, changes, maxima, bits, reasons, details):
    """Make the changed copies of rows that were measured as they were sent.

    records: int64[R, PITCH]; changes: int64[P, CHANGES_PITCH], what is changed by each program. A row that is at
    fault or has nothing left gets its reason and detail, and its records of the changed row get a width of 0.
    """
    change = changes + tl.program_id(0) * _CHANGES
    source = records + tl.load(change + _SOURCE) * _PITCH
    address, width = tl.load(source + _ADDRESS), tl.load(source + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(source + _DTYPE).to(tl.int32), tl.load(source + _IS_WEIGHTS).to(tl.int32)
    first_block, in_batch = tl.load(source + _FIRST_BLOCK), tl.load(source + _ROW)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    first = tl.load(change + _FIRST)
    copy = tl.load(records + first * _PITCH + _ADDRESS).to(tl.pointer_type(tl.float32))
    reason, where, _ = survey(address, dtype, width, maxima + first_block, bits + first_block, blocks, is_weights)
    if reason == 0:
        has_bias, has_penalties = tl.load(change + _BIAS_LEN) > 0, tl.load(change + _HISTORY_LEN) > 0
        is_converted = (is_weights != 0) & (has_bias | has_penalties)
        never = tl.where(is_weights != 0, 0.0, float("-inf"))
        top = _copy(change, address, dtype, width, never, is_converted, copy)
        if top <= tl.where(is_converted, float("-inf"), never):
            reason, where = reason * 0 + _NOTHING, where * 0 + _MASK_STEP
        if has_bias & (reason == 0):
            _add_bias(change, copy)
            if _largest(copy, width) == float("-inf"):
                reason, where = reason * 0 + _NOTHING, where * 0 + _BIAS_STEP
        if has_penalties & (reason == 0):
            _penalise(change, copy)
    if reason != 0:
        second = tl.load(change + _SECOND)
        tl.store(records + first * _PITCH + _WIDTH, first * 0)
        tl.store(records + tl.maximum(second, 0) * _PITCH + _WIDTH, first * 0, mask=second >= 0)
    tl.store(reasons + in_batch, reason)
    tl.store(details + in_batch, where.to(tl.int64))
