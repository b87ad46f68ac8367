"""Masses as whole numbers in compiled code: `sampling.masses` says the law."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.arithmetic import LN_2, LOG2_E
from samplerd_server.sampling.kernels.arithmetic import exp2, from_whole, log2, to_whole
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import as_bits, as_bits64, as_float64, jit
from samplerd_server.sampling.masses import LOWEST, NONE, PART, REST_BITS, SHIFT, TERM_BITS, TOTAL_BITS, UNKNOWN

__all__ = [
    "Scale",
    "count_reaching",
    "exponent",
    "guess_cut",
    "information",
    "is_above",
    "keep_reaching",
    "make_scale",
    "mass_of",
    "note_exponents",
    "reaches",
    "rest_mass",
    "row_total",
    "shift_of",
    "term_scale",
    "total_of",
    "weigh",
]

_LOWEST = np.float64(LOWEST)
_NOTHING = -45.0
"""Exponents below this have no mass: less than half of a unit of 2^-43."""


class Scale(NamedTuple):
    """How numbers become masses in the filters: relative to the largest number."""

    top: Any
    """float64: the largest number."""
    temperature: Any
    is_weights: Any
    bound: Any
    """float32: no number of the rest is above it."""
    certain: Any
    """int64: how many of the first of the order are known to precede the rest."""
    above: Any
    """int64: how many of the first of the order are above every number of the rest."""
    inverse: Any
    """float64: log2(e) / T."""
    shift: Any
    """int64: the largest has a mass of 2^shift units."""
    unit: Any
    """float64: 2^shift."""


@jit
def shift_of(vocab_size):
    """Do what `masses.shift_of` does."""
    bits = np.int64(0)
    while (np.int64(1) << bits) < np.int64(vocab_size):
        bits += 1
    shift: Any = min(SHIFT, TOTAL_BITS - bits)
    return np.int64(shift)


@jit
def make_scale(row, top, temperature, is_weights, bound, certain, above):
    """Make the scale of a row whose largest number is `top`, at T > 0."""
    shift = shift_of(row.vocab_size)
    return Scale(
        np.float64(top),
        temperature,
        is_weights,
        bound,
        certain,
        above,
        min(LOG2_E / temperature, 1e300),
        shift,
        np.float64(np.int64(1) << shift),
    )


@jit
def _clip(t):
    t = t if t > _LOWEST else _LOWEST
    return t if t < 0.0 else 0.0


@jit
def exponent(scale, y):
    """Compute log2 of a number's mass relative to the largest; at least LOWEST."""
    if scale.is_weights:
        return _clip(log2(np.float64(y) / scale.top) / scale.temperature)
    return _clip((np.float64(y) - scale.top) * scale.inverse)


@jit
def mass_of(scale, y):
    """Compute a number's mass: that of a weight at T = 1 is its share of the largest."""
    if scale.is_weights and scale.temperature == 1:
        return to_whole(min(np.float64(y) / scale.top, 1.0) * scale.unit)
    return to_whole(exp2(exponent(scale, y)) * scale.unit)


@jit
def weigh(scale, y, mass, count):
    """Fill in mass: int64[count] of y: float32[count]. Returns the total."""
    total = np.int64(0)
    top, inverse, unit = scale.top, scale.inverse, scale.unit
    if not scale.is_weights:
        for i in range(count):
            m = to_whole(exp2(_clip((np.float64(y[i]) - top) * inverse)) * unit)
            mass[i] = m
            total += m
    elif scale.temperature == 1:
        for i in range(count):
            m = to_whole(np.float64(y[i]) / top * unit)
            mass[i] = m
            total += m
    else:
        temperature = scale.temperature
        for i in range(count):
            m = to_whole(exp2(_clip(log2(np.float64(y[i]) / top) / temperature)) * unit)
            mass[i] = m
            total += m
    return total


@jit
def row_total(scale, work, width, scratch, cut):
    """Add the masses of the whole row x, whose maxima of blocks are in scratch.

    Returns the total, and of logits the sum of those whose exponent is at least `cut`, unless that is 0. mass is
    overwritten.
    """
    total, part = np.int64(0), np.int64(0)
    top, inverse, unit = scale.top, scale.inverse, scale.unit
    for b in range((width + BLOCK - 1) // BLOCK):
        x = work.x[b * BLOCK : (b + 1) * BLOCK]
        if scale.is_weights:
            total += weigh(scale, x, work.mass, BLOCK)
            continue
        if (np.float64(scratch.maxima[b]) - top) * inverse < _NOTHING:
            continue  # none of the block has any mass
        if cut == 0:
            for i in range(BLOCK):
                total += to_whole(exp2(_clip((np.float64(x[i]) - top) * inverse)) * unit)
            continue
        for i in range(BLOCK):
            t = _clip((np.float64(x[i]) - top) * inverse)
            m = to_whole(exp2(t) * unit)
            total += m
            part += m if t >= cut else np.int64(0)
    return total, part


@jit
def guess_cut(scale, work, width, share):
    """Guess an exponent above which logits of x have this share of the mass, by a sample of each block's beginning.

    What is guessed decides only how fast the cut is found. bin_mass is overwritten.
    """
    bins = work.bin_mass[:64]
    bins[:] = 0
    total = np.int64(0)
    for low in range(0, width - 15, BLOCK):
        for i in range(low, low + 16):
            t = exponent(scale, work.x[i])
            m = to_whole(exp2(t) * scale.unit)
            bins[np.int64(-t)] += m
            total += m
    reached = np.int64(0)
    for octave in range(60):
        reached += bins[octave]
        if np.float64(reached) >= share * np.float64(total):
            return -1.0 - np.float64(octave)
    return _LOWEST


@jit
def rest_mass(scale, rest):
    """Compute the mass of what was not sent, of ln `rest`: UNKNOWN, or NONE if there is nothing."""
    if rest == -np.inf:
        return np.int64(NONE)
    if scale.temperature != 1 or np.isnan(rest):
        return np.int64(UNKNOWN)
    largest = log2(scale.top) * LN_2 if scale.is_weights else scale.top
    t = min(max((rest - largest) * LOG2_E, _LOWEST), np.float64(REST_BITS - scale.shift))
    return max(np.int64(1), np.int64(np.rint(exp2(t) * scale.unit)))


@jit
def total_of(work, count):
    """Add masses."""
    total = np.int64(0)
    mass = work.mass
    for i in range(count):
        total += mass[i]
    return total


@jit
def term_scale(total):
    """Compute what terms of the entropy are multiplied by: rule 5."""
    return as_float64((np.int64(TERM_BITS + 1023 + 1022) - (as_bits64(np.float64(total)) >> 52)) << 52)


@jit
def reaches(mass, needed):
    """Tell whether a mass reaches a threshold."""
    return mass + (mass >> PART) >= needed


@jit
def information(scale, work, count, total):
    """Compute M / Z and H of what is kept, in bits: rule 3."""
    moment = np.int64(0)
    y, mass = work.y, work.mass
    if scale.is_weights:
        top, temperature = scale.top, scale.temperature
        for i in range(count):
            moment += to_whole(from_whole(mass[i]) * -_clip(log2(np.float64(y[i]) / top) / temperature))
    else:
        top, inverse = scale.top, scale.inverse
        for i in range(count):
            moment += to_whole(from_whole(mass[i]) * -_clip((np.float64(y[i]) - top) * inverse))
    share = np.float64(moment) / np.float64(total)
    return share, max(0.0, log2(np.float64(total)) - scale.shift + share)


@jit
def note_exponents(scale, work, count, total):
    """Write the exponents of weights into key, as bits. Returns M / Z, as `information` does."""
    moment = np.int64(0)
    y, mass, key, top, temperature = work.y, work.mass, work.key, scale.top, scale.temperature
    for i in range(count):
        t = _clip(log2(np.float64(y[i]) / top) / temperature)
        key[i] = np.uint64(as_bits64(t))
        moment += to_whole(from_whole(mass[i]) * -t)
    return np.float64(moment) / np.float64(total)


@jit
def is_above(scale, rest, needed):
    """Tell whether a category that was not sent may reach a threshold."""
    return rest != NONE and reaches(mass_of(scale, scale.bound), needed)


@jit
def count_reaching(work, count, needed):
    """Count those of y whose mass reaches a threshold: they come first in the total order.

    Returns how many, the key of the smallest of them (see `radix_select.key_of`), and whether all others are smaller,
    which only rounding could prevent.
    """
    length, low, high = np.int64(0), np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    y, mass = work.y, work.mass
    for i in range(count):  # integers, since of them many are compared at a time
        bits = as_bits(y[i] + np.float32(0))
        ordered = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
        is_reached = reaches(mass[i], needed)
        length += is_reached
        low = min(low, ordered if is_reached else np.int32(0x7FFFFFFF))
        high = max(high, np.int32(-0x80000000) if is_reached else ordered)
    return length, np.uint64(np.int64(low) + np.int64(0x80000000)), high < low


@jit
def keep_reaching(work, count, needed):
    """Keep of y, at and mass what has a mass that reaches a threshold. Returns how many."""
    kept = 0
    y, at, mass = work.y, work.at, work.mass
    for i in range(count):
        own = mass[i]
        y[kept] = y[i]
        at[kept] = at[i]
        mass[kept] = own
        kept += reaches(own, needed)
    return kept
