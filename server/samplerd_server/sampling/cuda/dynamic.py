"""The dynamic temperature of a row, by the entropy of its changed copy at T = 1, or of what filters left of it.

Law: `kernels/temperature.py` and `kernels/units.py`, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import COLDEST, HOTTEST, LN_2, LOG2_E
from samplerd_server.sampling.cuda.change_record import Change
from samplerd_server.sampling.cuda.copying import largest_of_copy
from samplerd_server.sampling.cuda.masses import exponents_of, log2_of, mass_of, power_of, round_off
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, Mode

__all__ = ["dynamic_temperature", "find_temperature", "give_temperature", "give_temperatures"]

_PITCH, _FINAL, _SHIFT = tl.constexpr(PITCH), tl.constexpr(Field.FINAL), tl.constexpr(Field.SHIFT)
_INVERSE, _AT, _JUDGED = (
    tl.constexpr(Field.INVERSE),
    tl.constexpr(Field.TEMPERATURE),
    tl.constexpr(Field.JUDGED),
)
_IS_WEIGHTS, _MODE, _SHAPED = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.MODE), tl.constexpr(int(Mode.SHAPED))
_FIRST, _TEMPERATURE, _RANGE = (
    tl.constexpr(Change.FIRST),
    tl.constexpr(Change.TEMPERATURE),
    tl.constexpr(Change.RANGE),
)
_EXPONENT, _COUNTED = tl.constexpr(Change.EXPONENT), tl.constexpr(Change.COUNTED)
_COLDEST, _HOTTEST, _LN_2, _LOG2_E = (
    tl.constexpr(COLDEST),
    tl.constexpr(HOTTEST),
    tl.constexpr(LN_2),
    tl.constexpr(LOG2_E),
)


@triton.jit
def _entropy(copy, width, shift, is_weights):
    """Compute the entropy of a copy at T = 1, and how many of its numbers can be drawn."""
    top = largest_of_copy(copy, width)
    nothing = tl.where(is_weights != 0, 0.0, float("-inf"))
    one = tl.full((), 1.0, tl.float64)
    total, moment, count = shift * 0, shift * 0, shift * 0
    for low in range(0, width, BLOCK_SIZE):
        at = low + tl.arange(0, BLOCK_SIZE)
        y = tl.load(copy + at, mask=at < width, other=float("-inf"))
        own = y > nothing
        y = tl.where(own, y, top)
        t, mass = exponents_of(y, top, one, is_weights), mass_of(y, top, one, shift, is_weights)
        mass = tl.where(own, mass, 0)
        total += tl.sum(mass, axis=0)
        moment += tl.sum(round_off(mass.to(tl.float64) * -t), axis=0)
        count += tl.sum(own.to(tl.int64), axis=0)
    share = moment.to(tl.float64) / total.to(tl.float64)
    bits = log2_of(total.to(tl.float64)) - shift.to(tl.float64) + share
    return tl.maximum(bits, 0.0) * _LN_2, count


@triton.jit
def dynamic_temperature(entropy, count, middle, reach, exponent):
    """Compute the temperature of an entropy, in nats, of which the largest is that of `count` categories."""
    most = log2_of(tl.maximum(count, 2).to(tl.float64)) * _LN_2
    share = tl.where(count > 1, tl.minimum(entropy / most, 1.0), 0.0)
    lift = tl.where(share > 0, power_of(tl.where(share > 0, share, 1.0), exponent), 0.0)
    low = tl.maximum(middle - reach, 0.0)
    temperature = low + (tl.minimum(middle + reach, _HOTTEST) - low) * lift
    return tl.where(temperature > 0, tl.maximum(temperature, _COLDEST), 0.0)


@triton.jit
def find_temperature(change, source, copy, width, is_weights):
    """Compute the temperature of a changed copy."""
    entropy, count = _entropy(copy, width, tl.load(source + _SHIFT), is_weights)
    counted = tl.load(change + _COUNTED)
    return dynamic_temperature(
        entropy,
        tl.where(counted > 0, counted, count),
        tl.load(change + _TEMPERATURE).to(tl.float64, bitcast=True),
        tl.load(change + _RANGE).to(tl.float64, bitcast=True),
        tl.load(change + _EXPONENT).to(tl.float64, bitcast=True),
    )


@triton.jit
def give_temperature(record, temperature, is_weights):
    """Write a temperature, float64, into a record, and what its numbers are."""
    inverse = tl.full((), _LOG2_E, tl.float64) / tl.where(temperature > 0, temperature, 1.0)
    inverse = tl.where((is_weights != 0) & (temperature == 1), 0.0, inverse)
    inverse = tl.where(temperature == 0, -1.0, inverse)
    tl.store(record + _INVERSE, inverse.to(tl.int64, bitcast=True))
    tl.store(record + _AT, temperature.to(tl.int64, bitcast=True))
    tl.store(record + _JUDGED, temperature.to(tl.int64, bitcast=True))
    tl.store(record + _IS_WEIGHTS, is_weights.to(tl.int64))


@triton.jit
def give_temperatures(records, change, source, temperature, is_weights):
    """Give the copy of a row, and what is drawn from, a temperature; what is shaped at one above 0 is logits at 1."""
    is_shaped = (tl.load(source + _MODE) & _SHAPED) != 0
    final = records + tl.load(source + _FINAL) * _PITCH
    give_temperature(
        final,
        tl.where(is_shaped & (temperature > 0), 1.0, temperature),
        tl.where(is_shaped & (temperature > 0), 0, is_weights),
    )
    give_temperature(records + tl.load(change + _FIRST) * _PITCH, temperature, is_weights)
