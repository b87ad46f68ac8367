"""What any filters keep of a row, in any order, with the temperature among them: a list in memory as long as the row.

Law: `kernels/steps.py` and `kernels/filters.py`, `sampling.masses`. A program takes a row. Every filter but
XTC keeps a prefix of an order, which is found by its length or its mass in one place (`lists.end_of_prefix`).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0912, PLR0915, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.arithmetic import uniform
from samplerd_server.sampling.cuda.judging import (
    information,
    key_by_distance,
    key_by_number,
    mass_of_prefix,
    weigh_terms,
    within_deviations,
)
from samplerd_server.sampling.cuda.late import entropy_of, heat_list, next_listed
from samplerd_server.sampling.cuda.lists import (
    ANY_MASS,
    EVERY,
    compact,
    count_among,
    end_of_prefix,
    largest_of,
    reaching,
    sum_of,
    weigh_list,
)
from samplerd_server.sampling.cuda.masses import exp_of
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, Field, Mode, load_numbers
from samplerd_server.sampling.kernels import filter_table
from samplerd_server.sampling.kernels.philox import XTC as XTC_PURPOSE
from samplerd_server.sampling.masses import PART
from samplerd_server.sampling.parameters import FILTERS

__all__ = ["narrow"]

_NUMBERS = {own.name: at for at, own in enumerate(FILTERS)}
_SIGMA, _TOP_K, _TOP_P = (
    tl.constexpr(_NUMBERS["top_n_sigma"]),
    tl.constexpr(_NUMBERS["top_k"]),
    tl.constexpr(_NUMBERS["top_p"]),
)
_MIN_P, _TOP_A, _TYPICAL = (
    tl.constexpr(_NUMBERS["min_p"]),
    tl.constexpr(_NUMBERS["top_a"]),
    tl.constexpr(_NUMBERS["typical_p"]),
)
_EPSILON, _ETA = tl.constexpr(_NUMBERS["epsilon_cutoff"]), tl.constexpr(_NUMBERS["eta_cutoff"])
_TOP_H, _XTC, _JOINT = (
    tl.constexpr(_NUMBERS["top_h"]),
    tl.constexpr(_NUMBERS["xtc"]),
    tl.constexpr(_NUMBERS["joint"]),
)
_TEMPERATURE_STEP = tl.constexpr(filter_table.TEMPERATURE)
_ALL, _HIGHEST = tl.constexpr(filter_table.TIES_ALL), tl.constexpr(filter_table.TIES_HIGHEST)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS = tl.constexpr(Field.IS_WEIGHTS)
_SHIFT, _TEMPERATURE = tl.constexpr(Field.SHIFT), tl.constexpr(Field.TEMPERATURE)
_SEED, _ROW_INDEX = tl.constexpr(Field.SEED), tl.constexpr(Field.ROW_INDEX)
_XTC_DRAW, _LISTED = tl.constexpr(Field.XTC_DRAW), tl.constexpr(Field.LISTED)
_STEPS, _STEPS_LEN, _FIRST = (
    tl.constexpr(Field.STEPS),
    tl.constexpr(Field.STEPS_LEN),
    tl.constexpr(Field.FIRST_STEP),
)
_FILTERS, _TIES, _LEAST = tl.constexpr(Field.FILTERS), tl.constexpr(Field.TIES), tl.constexpr(Field.LEAST)
_IS_EXACT, _JUDGED, _K = tl.constexpr(Field.IS_EXACT), tl.constexpr(Field.JUDGED), tl.constexpr(Field.TOP_K)
_P, _MIN_SHARE, _SIGMAS = tl.constexpr(Field.TOP_P), tl.constexpr(Field.MIN_P), tl.constexpr(Field.TOP_N_SIGMA)
_A, _TYPICAL_SHARE, _EPSILON_AT = tl.constexpr(Field.TOP_A), tl.constexpr(Field.TYPICAL_P), tl.constexpr(Field.EPSILON)
_ETA_AT, _H = tl.constexpr(Field.ETA), tl.constexpr(Field.TOP_H)
_EXEMPT, _EXEMPT_LEN = tl.constexpr(Field.EXEMPT), tl.constexpr(Field.EXEMPT_LEN)
_MODE, _EXEMPTS_ROW, _LATE = (
    tl.constexpr(Field.MODE),
    tl.constexpr(int(Mode.EXEMPTS_ROW)),
    tl.constexpr(int(Mode.LATE)),
)
_XTC_P, _XTC_T = tl.constexpr(Field.XTC_PROBABILITY), tl.constexpr(Field.XTC_THRESHOLD)
_LN_2, _XTC_PURPOSE = tl.constexpr(LN_2), tl.constexpr(XTC_PURPOSE)
_BEYOND = tl.constexpr(1.0 + 2.0**-PART)


@triton.jit
def _double(record, place):
    return tl.load(record + place).to(tl.float64, bitcast=True)


@triton.jit
def _ceil(x):
    whole = x.to(tl.int64)
    return whole + (whole.to(tl.float64) < x).to(tl.int64)


@triton.jit
def _list_all(address, dtype, width, maxima, blocks, is_weights, numbers, positions):
    """List every number that can be drawn. Returns how many."""
    nothing = tl.where(is_weights != 0, 0.0, float("-inf"))
    count = tl.full((), 0, tl.int64)
    for b in range(blocks):
        if tl.load(maxima + b) > nothing:
            at = b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
            x = load_numbers(address, dtype, at, width, nothing)
            own = x > nothing
            place = count + tl.cumsum(own.to(tl.int64), axis=0) - 1
            tl.store(numbers + place, x, mask=own)
            tl.store(positions + place, at, mask=own)
            count += tl.sum(own.to(tl.int64), axis=0)
    tl.debug_barrier()
    return count


@triton.jit
def _acts(record):
    """Tell whether XTC acts on a row: its own noise says so."""
    row_index = tl.load(record + _ROW_INDEX).to(tl.uint32)
    seed = tl.load(record + _SEED).to(tl.uint64, bitcast=True)
    first = tl.load(record + _XTC_DRAW).to(tl.uint64, bitcast=True)
    return uniform(seed, first, row_index, row_index * 0 + _XTC_PURPOSE) < _double(record, _XTC_P)


@triton.jit
def _threshold(record, number, masses, count, total, entropy):
    """Compute the smallest mass that a filter keeps, in units; see `sampling.thresholds`."""
    _, largest = sum_of(masses, count)
    most, whole = largest.to(tl.float64), total.to(tl.float64)
    if number == _MIN_P:
        needed = _double(record, _MIN_SHARE) * most
    elif number == _TOP_A:
        needed = _double(record, _A) * most * (most / whole)
    elif number == _EPSILON:
        needed = _double(record, _EPSILON_AT) * whole
    elif number == _ETA:
        value = _double(record, _ETA_AT)
        needed = tl.minimum(value, tl.sqrt(value) * exp_of(-entropy)) * whole
    else:
        needed = _double(record, _XTC_T) * whole
    return _ceil(needed)


@triton.jit
def _filter(record, number, numbers, positions, masses, keys, count, total, top, temperature, is_weights):
    """Apply one filter to a list. Returns how many are kept."""
    shift = tl.load(record + _SHIFT)
    rule = (tl.load(record + _TIES) >> (2 * number)) & 3
    least = tl.load(record + _LEAST)
    if (tl.load(record + _IS_EXACT) != 0) & ((number == _TOP_K) | (number == _SIGMA)):
        least = tl.full((), 1, tl.int64)
    exempt, exempt_len = tl.load(record + _EXEMPT).to(tl.pointer_type(tl.int32)), tl.load(record + _EXEMPT_LEN)
    length, needed = tl.full((), EVERY, tl.int64), tl.full((), ANY_MASS, tl.int64)
    whole = tl.full((), 1, tl.int64)
    share, entropy = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
    is_off = count < 0
    if (number == _TYPICAL) | (number == _ETA):
        share, bits = information(numbers, masses, count, total, top, temperature, shift, is_weights)
        entropy = bits * _LN_2
    if number == _TYPICAL:
        key_by_distance(numbers, keys, count, share, top, temperature, is_weights)
        needed = _ceil(_double(record, _TYPICAL_SHARE) * total.to(tl.float64))
    else:
        key_by_number(numbers, keys, count)
    if number == _TOP_K:
        length = tl.load(record + _K)
    elif number == _SIGMA:
        largest = largest_of(numbers, count)
        length = within_deviations(numbers, count, largest, _double(record, _SIGMAS), shift, is_weights)
    elif (number == _TOP_P) | (number == _JOINT):
        p, k = _double(record, _P), tl.load(record + _K)
        if p < 1:
            needed = _ceil(p * total.to(tl.float64))
        if (number == _JOINT) & (k > 0):
            length = k
    elif number == _TOP_H:
        whole = weigh_terms(numbers, masses, count, total, top, temperature, shift, is_weights)
        needed = (_double(record, _H) * whole.to(tl.float64) * _BEYOND).to(tl.int64) + 1
    elif number != _TYPICAL:
        length = reaching(masses, count, _threshold(record, number, masses, count, total, entropy))
        if number == _XTC:
            is_off = length < 2
            if not is_off:
                is_off = not _acts(record)
        length = tl.maximum(length, 1)
    last_key, ties, equal = tl.full((), 0, tl.int64), count, count
    found = count
    from_last = (number == _TYPICAL) & (rule == _HIGHEST)
    is_all = is_off | ((length >= count) & (needed == ANY_MASS))
    is_done = is_all & ((number != _XTC) | is_off)
    while not is_done:
        last_key, ties, equal, found = end_of_prefix(keys, masses, count, length, needed, from_last)
        is_all = found >= count
        is_done = found >= least
        if (number == _TOP_H) & (needed != ANY_MASS):  # so far the prefix that exceeds the limit: now it has a length
            exceeds = mass_of_prefix(keys, masses, count, last_key, ties) >= needed
            length = tl.where(whole > 0, tl.maximum(found - exceeds.to(tl.int64), 1), 1)
            needed = tl.full((), ANY_MASS, tl.int64)
            is_done = length >= count
            is_all = is_done
        elif (found < least) & (number != _XTC):
            length, needed = least, tl.full((), ANY_MASS, tl.int64)
            is_done = least >= count
            is_all = is_done
        else:
            is_done = found > 0
    if number == _XTC:
        first = tl.where(rule == _HIGHEST, 1, 0).to(tl.int64)
        dropped = tl.where(rule == _ALL, 0, equal - 1)
        left = count - (length - equal + dropped)
        if (exempt_len > 0) & (not is_off):
            found = count_among(keys, positions, count, last_key, dropped, first, exempt, exempt_len)
            left += found
            is_off = is_off | ((found > 0) & ((tl.load(record + _MODE) & _EXEMPTS_ROW) != 0))
        is_short = left < tl.load(record + _LEAST)
        if not (is_off | is_short):
            of_list = (numbers, positions, masses, keys)
            count = compact(*of_list, count, last_key, dropped, first, number == _XTC, exempt, exempt_len)
    elif not is_all:
        if (rule == _ALL) & (ties != 0):
            ties = equal
        elif (rule == _HIGHEST) & (ties < equal):
            ties = ties - equal
        of_list = (numbers, positions, masses, keys)
        count = compact(*of_list, count, last_key, ties, count * 0, number == _XTC, exempt, count * 0)
    if number == _TOP_H:
        weigh_list(numbers, masses, count, top, temperature, shift, is_weights)
    return count


@triton.jit
def narrow(record, top, maxima, numbers, positions, masses, keys):
    """List what the filters keep of a row of which `top` is the largest number, whatever filters it has.

    Returns how many, at which temperature, and whether they are weights: smoothing after a filter makes logits of them,
    and divides them by that temperature. maxima, numbers: float32, positions: int32, and masses and keys: int64
    scratch, are the row's own.
    """
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    shift, steps, steps_len = tl.load(record + _SHIFT), tl.load(record + _STEPS), tl.load(record + _STEPS_LEN)
    filters, temperature, final = tl.load(record + _FILTERS), _double(record, _JUDGED), _double(record, _TEMPERATURE)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    count, row_temperature = _list_all(address, dtype, width, maxima, blocks, is_weights, numbers, positions), final
    listed = tl.load(record + _LISTED)
    total = weigh_list(numbers, masses, count, top, temperature, shift, is_weights)
    place = tl.load(record + _FIRST)
    is_first = place >= 0
    while place < steps_len:
        number = ((steps >> (4 * place)) & 15).to(tl.int32)
        place += 1
        if number == _TEMPERATURE_STEP:
            later = place
            is_any = place < 0
            while later < steps_len:
                is_any = is_any | (((filters >> ((steps >> (4 * later)) & 15)) & 1) != 0)
                later += 1
            if (tl.load(record + _MODE) & _LATE) != 0:
                entropy = entropy_of(numbers, masses, count, total, top, temperature, shift, is_weights)
                final, is_bent = heat_list(record, numbers, count, listed, entropy, is_weights)
                is_weights = tl.where(is_bent, 0, is_weights)
                is_any = is_any | is_bent
                temperature = tl.where(is_bent, 1.0, final)
            else:
                temperature = final
            if (row_temperature > 0) & is_any:
                top = largest_of(numbers, count)
                total = weigh_list(numbers, masses, count, top, temperature, shift, is_weights)
            else:
                place = steps_len
        elif ((filters >> number) & 1) != 0:
            before, of_list = count, (numbers, positions, masses, keys)
            count = _filter(record, number, *of_list, count, total, top, temperature, is_weights)
            listed = next_listed(record, number, listed, before, count)
            next_step = ((steps >> (4 * place)) & 15).to(tl.int32)
            # What follows top_n_sigma as `joint` is judged on the unfiltered distribution.
            is_joint = is_first & (number == _SIGMA) & (place < steps_len) & (next_step == _JOINT)
            if not (is_joint & (_double(record, _P) < 1)):
                total, _ = sum_of(masses, count)
        is_first = place < 0
    return count, final, is_weights
