"""Temperatures that come after a filter, where they are dynamic or logits are smoothed by them.

Law: `kernels/steps.py` and `kernels/temperature.py`, to the bit. What the filters left gets its temperature while it is
narrowed; then the whole row does, in a copy, if an output asks for the distribution before the filters.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.dynamic import dynamic_temperature, give_temperature
from samplerd_server.sampling.cuda.judging import information
from samplerd_server.sampling.cuda.measure import measure_block
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, Mode, load_numbers
from samplerd_server.sampling.cuda.smooth import bent, smooth_list, to_logits
from samplerd_server.sampling.parameters import FILTERS

__all__ = ["entropy_of", "heat_list", "heat_row", "next_listed"]

_NUMBERS = {own.name: at for at, own in enumerate(FILTERS)}
_SIGMA, _TOP_K, _XTC = (tl.constexpr(_NUMBERS[name]) for name in ("top_n_sigma", "top_k", "xtc"))
_LN_2, _PITCH = tl.constexpr(LN_2), tl.constexpr(PITCH)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK, _SCALED, _FINAL = (
    tl.constexpr(Field.FIRST_BLOCK),
    tl.constexpr(Field.SCALED),
    tl.constexpr(Field.FINAL),
)
_TEMPERATURE, _RANGE, _EXPONENT = (
    tl.constexpr(Field.TEMPERATURE),
    tl.constexpr(Field.RANGE),
    tl.constexpr(Field.EXPONENT),
)
_SMOOTHING, _CURVE = tl.constexpr(Field.SMOOTHING), tl.constexpr(Field.CURVE)
_K, _LEAST, _IS_EXACT = tl.constexpr(Field.TOP_K), tl.constexpr(Field.LEAST), tl.constexpr(Field.IS_EXACT)
_MODE, _SHAPED = tl.constexpr(Field.MODE), tl.constexpr(int(Mode.SHAPED))


@triton.jit
def _double(record, place):
    return tl.load(record + place).to(tl.float64, bitcast=True)


@triton.jit
def entropy_of(numbers, masses, count, total, top, temperature, shift, is_weights):
    """Compute the entropy of a list, in nats."""
    _, bits = information(numbers, masses, count, total, top, temperature, shift, is_weights)
    return bits * _LN_2


@triton.jit
def next_listed(record, number, listed, before, count):
    """Count llama.cpp's list after a filter, which kept `count` of `before`; see `kernels.steps`."""
    least = tl.where(tl.load(record + _IS_EXACT) != 0, 1, tl.load(record + _LEAST))
    of_top_k = tl.maximum(tl.minimum(listed, tl.maximum(tl.load(record + _K), least)), count)
    own = tl.where(number == _TOP_K, of_top_k, count)
    own = tl.where(number == _XTC, listed - (before - count), own)
    own = tl.where(number == _SIGMA, listed, own)
    return tl.where(listed > 0, own, listed)


@triton.jit
def heat_list(record, numbers, count, listed, entropy, is_weights):
    """Find the temperature of what is left, and bend its numbers by it. Returns it, and whether they are bent.

    listed: how many categories the largest entropy is of; 0 = as many as are left.
    """
    temperature, reach = _double(record, _TEMPERATURE), _double(record, _RANGE)
    if reach > 0:
        counted = tl.where(listed > 0, listed, count)
        temperature = dynamic_temperature(entropy, counted, temperature, reach, _double(record, _EXPONENT))
    factor = _double(record, _SMOOTHING)
    is_bent = (factor > 0) & (temperature > 0)
    if is_bent:
        smooth_list(numbers, count, temperature, factor, _double(record, _CURVE), is_weights)
    return temperature, is_bent


@triton.jit
def heat_row(records, record, top, temperature, maxima, bits, sums):
    """Give what is drawn from, and a copy of the row before the filters, the temperature that `narrow` found.

    top: the largest number of the row. maxima, bits and sums are those of all blocks; the copy is measured.
    """
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    factor, curve = _double(record, _SMOOTHING), _double(record, _CURVE)
    is_bent = (factor > 0) & (temperature > 0)
    is_at_one = is_bent | (((tl.load(record + _MODE) & _SHAPED) != 0) & (temperature > 0))
    final = records + tl.load(record + _FINAL) * _PITCH
    give_temperature(final, tl.where(is_at_one, 1.0, temperature), tl.where(is_at_one, 0, is_weights))
    if tl.load(record + _SCALED) >= 0:
        scaled = records + tl.load(record + _SCALED) * _PITCH
        copy, at = tl.load(scaled + _ADDRESS), tl.load(scaled + _FIRST_BLOCK)
        own_weights = tl.where(is_bent, 0, is_weights)
        give_temperature(scaled, tl.where(is_bent, 1.0, temperature), own_weights)
        largest = to_logits(top, is_weights != 0).to(tl.float64)
        fill = tl.where(is_weights != 0, 0.0, float("-inf"))
        for low in range(0, width, BLOCK_SIZE):
            place = low + tl.arange(0, BLOCK_SIZE)
            x = load_numbers(address, dtype, place, width, fill)
            if is_bent:
                x = bent(to_logits(x, is_weights != 0), largest, temperature, factor, curve)
            tl.store(copy.to(tl.pointer_type(tl.float32)) + place, x, mask=place < width)
        tl.debug_barrier()
        c = _double(scaled, _INVERSE)
        copy_dtype = tl.load(scaled + _DTYPE).to(tl.int32)
        for b in range((width + BLOCK_SIZE - 1) // BLOCK_SIZE):
            measure_block(copy, copy_dtype, width, own_weights, c, b, at + b, maxima, bits, sums)
