"""What filters judge by: deviations, entropies and distances of a list, in whole numbers.

Law: `sampling.masses`, `kernels/units.py` and `kernels/gather.py`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917, SIM108 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.lists import key_of
from samplerd_server.sampling.cuda.masses import exponents_of, log2_of, power_of_two, round_off
from samplerd_server.sampling.masses import DISTANCES, PART, TERM_BITS

__all__ = [
    "as_logits",
    "information",
    "key_by_distance",
    "key_by_number",
    "mass_of_prefix",
    "weigh_terms",
    "within_deviations",
]

_LANES, _LN_2, _SHARE = tl.constexpr(512), tl.constexpr(LN_2), tl.constexpr(2.0**-PART)
_TERM_EXPONENT, _DISTANCES = tl.constexpr(TERM_BITS + 1022), tl.constexpr(float(DISTANCES))


@triton.jit
def as_logits(y, is_weights):
    """Turn numbers of a list into logits."""
    if is_weights != 0:
        logits = (log2_of(y.to(tl.float64)) * _LN_2).to(tl.float32)
    else:
        logits = y
    return logits


@triton.jit
def _gaps(numbers, low, count, top, is_weights):
    """Compute how far numbers of a list lie below the largest, as float64; 0 past its end."""
    at = low + tl.arange(0, _LANES)
    y = as_logits(tl.load(numbers + at, mask=at < count, other=1.0), is_weights)
    return tl.where(at < count, top.to(tl.float64) - y.to(tl.float64), 0.0), at < count


@triton.jit
def within_deviations(numbers, count, largest, deviations, shift, is_weights):
    """Count the numbers within this many standard deviations of the largest; see `kernels.gather.deviation`."""
    top = as_logits(largest, is_weights)
    widest = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        gap, _ = _gaps(numbers, low, count, top, is_weights)
        widest = tl.maximum(widest, tl.max(gap.to(tl.int64, bitcast=True), axis=0))
    power = tl.where(widest != 0, (widest >> 52) - 1022, 0)
    unit = power_of_two(shift - power)
    gaps = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        gap, _ = _gaps(numbers, low, count, top, is_weights)
        gaps += tl.sum(round_off(gap * unit), axis=0)
    mean = gaps.to(tl.float64) / count.to(tl.float64) / unit
    inverse, whole = power_of_two(-power), power_of_two(shift)
    squares = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        gap, inside = _gaps(numbers, low, count, top, is_weights)
        part = (gap - mean) * inverse
        squares += tl.sum(tl.where(inside, round_off(part * part * whole), 0), axis=0)
    limit = deviations * (tl.sqrt(squares.to(tl.float64) / count.to(tl.float64) / whole) * power_of_two(power))
    survivors = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        gap, inside = _gaps(numbers, low, count, top, is_weights)
        survivors += tl.sum((inside & (gap - gap * _SHARE <= limit)).to(tl.int64), axis=0)
    return survivors


@triton.jit
def information(numbers, masses, count, total, top, temperature, shift, is_weights):
    """Compute M / Z and H of a list, in bits; see `kernels.units.information`."""
    moment = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        y = tl.load(numbers + at, mask=at < count, other=1.0)
        t = exponents_of(tl.where(at < count, y, top), top, temperature, is_weights)
        mass = tl.load(masses + at, mask=at < count, other=0)
        moment += tl.sum(round_off(mass.to(tl.float64) * -t), axis=0)
    share = moment.to(tl.float64) / total.to(tl.float64)
    return share, tl.maximum(log2_of(total.to(tl.float64)) - shift.to(tl.float64) + share, 0.0)


@triton.jit
def key_by_number(numbers, keys, count):
    """Write the keys of a list in the total order."""
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        tl.store(keys + at, key_of(tl.load(numbers + at, mask=at < count, other=0.0)), mask=at < count)
    tl.debug_barrier()


@triton.jit
def key_by_distance(numbers, keys, count, share, top, temperature, is_weights):
    """Write the keys of a list in the order of typical_p; share: M / Z of `information`."""
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        y = tl.load(numbers + at, mask=at < count, other=1.0)
        t = exponents_of(tl.where(at < count, y, top), top, temperature, is_weights)
        tl.store(keys + at, -round_off(tl.abs(-t - share) * _DISTANCES), mask=at < count)
    tl.debug_barrier()


@triton.jit
def weigh_terms(numbers, masses, count, total, top, temperature, shift, is_weights):
    """Put the terms of the entropy in the place of masses. Returns their sum; see `kernels.filters._top_h`."""
    level = log2_of(total.to(tl.float64)) - shift.to(tl.float64)
    exponent = total.to(tl.float64).to(tl.int64, bitcast=True) >> 52
    scaled = power_of_two(-exponent + _TERM_EXPONENT)
    whole = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        y = tl.load(numbers + at, mask=at < count, other=1.0)
        t = exponents_of(tl.where(at < count, y, top), top, temperature, is_weights)
        mass = tl.load(masses + at, mask=at < count, other=0).to(tl.float64)
        term = round_off(mass * tl.maximum(level - t, 0.0) * scaled)
        tl.store(masses + at, term, mask=at < count)
        whole += tl.sum(term, axis=0)
    tl.debug_barrier()
    return whole


@triton.jit
def mass_of_prefix(keys, masses, count, last_key, ties):
    """Sum the masses of those with a key above `last_key`, and of the first `ties` with that key."""
    added, seen = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        key = tl.load(keys + at, mask=at < count, other=0)
        is_equal = (key == last_key) & (at < count)
        rank = seen + tl.cumsum(is_equal.to(tl.int64), axis=0) - 1
        seen += tl.sum(is_equal.to(tl.int64), axis=0)
        own = ((key > last_key) & (at < count)) | (is_equal & (rank < ties))
        added += tl.sum(tl.where(own, tl.load(masses + at, mask=own, other=0), 0), axis=0)
    return added
