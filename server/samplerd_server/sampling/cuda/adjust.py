"""Steps 1 to 4, and smoothing: rows with guidance, a mask, a bias or penalties are copied, and changed in the copy.

Law: `kernels/adjust.py`, to the bit. A program takes a row that `measure` has measured. The tokens of history are
counted by comparing each with all, so that no memory as long as the row is cleared for them. What bad words, n-grams
and DRY need of the order of history is found on the host, in linear time: see `changes.py`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.core.enums import RowErrorReason, Step
from samplerd_server.sampling.cuda.change_record import CHANGES_PITCH, Change
from samplerd_server.sampling.cuda.copying import copy_row, largest_of_copy, survey_guidance
from samplerd_server.sampling.cuda.dynamic import find_temperature, give_temperatures
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field
from samplerd_server.sampling.cuda.smooth import clamp, smooth_list
from samplerd_server.sampling.cuda.survey import survey

__all__ = ["adjust"]


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
_GUIDANCE, _BECOMES_LOGITS = tl.constexpr(Change.GUIDANCE), tl.constexpr(Change.BECOMES_LOGITS)
_SMOOTHING, _CURVE, _SMOOTHED_AT = (
    tl.constexpr(Change.SMOOTHING),
    tl.constexpr(Change.CURVE),
    tl.constexpr(Change.SMOOTHED_AT),
)
_RANGE = tl.constexpr(Change.RANGE)
_LOWERED, _LOSSES, _LOWERED_LEN = (
    tl.constexpr(Change.LOWERED),
    tl.constexpr(Change.LOSSES),
    tl.constexpr(Change.LOWERED_LEN),
)
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
_BIAS_STEP = tl.constexpr(int(Step.BIAS))


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
        tl.store(copy + token, tl.where(x == float("-inf"), x, clamp(x)).to(tl.float32), mask=at < count)
    tl.debug_barrier()


@triton.jit
def _lower(change, copy):
    """Lower the tokens that would continue a repetition."""
    ids = tl.load(change + _LOWERED).to(tl.pointer_type(tl.int32))
    losses, count = tl.load(change + _LOSSES).to(tl.pointer_type(tl.float64)), tl.load(change + _LOWERED_LEN)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        token = tl.load(ids + at, mask=at < count, other=0)
        x = tl.load(copy + token, mask=at < count, other=0.0).to(tl.float64)
        x = x - tl.load(losses + at, mask=at < count, other=0.0)
        tl.store(copy + token, tl.where(x == float("-inf"), x, clamp(x)).to(tl.float32), mask=at < count)
    tl.debug_barrier()


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
        own = (at < length) & (later == 0) & (token >= 0)  # -1: a candidate that was not sent
        number = tl.load(copy + token, mask=own, other=0.0)
        logit = number.to(tl.float64)
        factor = tl.where(is_repeated > 0, repetition, 1.0)
        is_divided = logit > 0
        logit = logit * tl.where(is_divided, 1.0, factor) / tl.where(is_divided, factor, 1.0)
        logit = clamp(logit) - often.to(tl.float64) * frequency - tl.where(is_present > 0, presence, 0.0)
        is_finite = tl.abs(number) < float("inf")
        tl.store(copy + token, tl.where(is_finite, clamp(logit).to(tl.float32), number), mask=own)
    tl.debug_barrier()


@triton.jit
def _heat(records, change, source, copy, width, is_weights):
    """Find the temperature of a copy, if it is dynamic, and bend its numbers by it, if they are smoothed."""
    temperature = tl.load(change + _SMOOTHED_AT).to(tl.float64, bitcast=True)
    is_dynamic = tl.load(change + _RANGE) != 0
    if is_dynamic:
        temperature = find_temperature(change, source, copy, width, is_weights)
    is_bent = (tl.load(change + _SMOOTHING) != 0) & (temperature > 0)
    if is_bent:
        factor = tl.load(change + _SMOOTHING).to(tl.float64, bitcast=True)
        curve = tl.load(change + _CURVE).to(tl.float64, bitcast=True)
        smooth_list(copy, width, temperature, factor, curve, is_weights)
    if is_dynamic:
        own = tl.where(is_bent, 1.0, temperature)
        give_temperatures(records, change, source, own, tl.where(is_bent, 0, is_weights))


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
    reason, where, top = survey(address, dtype, width, maxima + first_block, bits + first_block, blocks, is_weights)
    is_guided, by_top = tl.load(change + _GUIDANCE) >= 0, top
    if is_guided:
        reason, where, by_top = survey_guidance(records, change, maxima, bits, width, is_weights, reason, where)
    if reason == 0:
        has_bias, has_penalties = tl.load(change + _BIAS_LEN) > 0, tl.load(change + _HISTORY_LEN) > 0
        is_converted = (is_weights != 0) & (tl.load(change + _BECOMES_LOGITS) != 0)
        reason, where = copy_row(records, change, address, dtype, width, is_weights, is_converted, top, by_top, copy)
        if has_bias & (reason == 0):
            _add_bias(change, copy)
            if largest_of_copy(copy, width) == float("-inf"):
                reason, where = reason * 0 + _NOTHING, where * 0 + _BIAS_STEP
        if has_penalties & (reason == 0):
            _penalise(change, copy)
        if reason == 0:
            _lower(change, copy)
            _heat(records, change, source, copy, width, ((is_weights != 0) & (is_converted == 0)).to(tl.int32))
    if reason != 0:
        second = tl.load(change + _SECOND)
        tl.store(records + first * _PITCH + _WIDTH, first * 0)
        tl.store(records + tl.maximum(second, 0) * _PITCH + _WIDTH, first * 0, mask=second >= 0)
    tl.store(reasons + in_batch, reason)
    tl.store(details + in_batch, where.to(tl.int64))
