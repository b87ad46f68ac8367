"""Lists of what is kept of a row, in memory: numbers, positions, masses and keys, in order of position.

Law: `kernels/radix_select.py`. The order is (key descending, position ascending); masses are whole numbers, so that
sums need no order. A program has a list for itself and passes over it in parts.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.masses import mass_of
from samplerd_server.sampling.masses import PART

__all__ = [
    "ANY_MASS",
    "EVERY",
    "compact",
    "count_among",
    "end_of_prefix",
    "key_of",
    "largest_of",
    "reaching",
    "sum_of",
    "weigh_list",
]

EVERY = tl.constexpr(1 << 40)
"""A length that no prefix has."""
ANY_MASS = tl.constexpr(0x7FFFFFFFFFFFFFFF)
"""A sum of masses that no prefix reaches."""
_LANES, _PART = tl.constexpr(512), tl.constexpr(PART)


@triton.jit
def key_of(x):
    """Map float32 numbers to int64 that order like them; -0.0 as 0.0."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit
def largest_of(numbers, count):
    """Find the largest number of a list."""
    largest = tl.full((), float("-inf"), tl.float32)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        largest = tl.maximum(largest, tl.max(tl.load(numbers + at, mask=at < count, other=float("-inf")), axis=0))
    return largest


@triton.jit
def weigh_list(numbers, masses, count, top, temperature, shift, is_weights):
    """Write the masses of a list's numbers, relative to `top`. Returns their sum."""
    total = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        y = tl.load(numbers + at, mask=at < count, other=0.0)
        own = mass_of(tl.where(at < count, y, top), top, temperature, shift, is_weights)
        tl.store(masses + at, own, mask=at < count)
        total += tl.sum(tl.where(at < count, own, 0), axis=0)
    tl.debug_barrier()
    return total


@triton.jit
def sum_of(masses, count):
    """Sum the masses of a list, and find the largest of them."""
    total, largest = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = tl.load(masses + at, mask=at < count, other=0)
        total += tl.sum(own, axis=0)
        largest = tl.maximum(largest, tl.max(own, axis=0))
    return total, largest


@triton.jit
def reaching(masses, count, needed):
    """Count the masses that reach a threshold."""
    length = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = tl.load(masses + at, mask=at < count, other=0)
        length += tl.sum(((own + (own >> _PART) >= needed) & (at < count)).to(tl.int64), axis=0)
    return length


@triton.jit
def _at_least(keys, masses, count, key):
    """Count the entries of at least a key, and sum their masses."""
    found, mass = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = (tl.load(keys + at, mask=at < count, other=0) >= key) & (at < count)
        found += tl.sum(own.to(tl.int64), axis=0)
        mass += tl.sum(tl.where(own, tl.load(masses + at, mask=own, other=0), 0), axis=0)
    return found, mass


@triton.jit
def _count_ties(keys, masses, count, key, equal, equal_mass, above, above_mass, length, needed, from_last):
    """Count how many of the entries with a key belong to the prefix, and sum their masses."""
    seen, seen_mass = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    ties = equal
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = (tl.load(keys + at, mask=at < count, other=0) == key) & (at < count)
        mass = tl.where(own, tl.load(masses + at, mask=own, other=0), 0)
        rank = seen + tl.cumsum(own.to(tl.int64), axis=0) - 1
        before = seen_mass + tl.cumsum(mass, axis=0) - mass
        seen += tl.sum(own.to(tl.int64), axis=0)
        seen_mass += tl.sum(mass, axis=0)
        if from_last:
            rank = equal - 1 - rank
            before = equal_mass - before - mass
        is_over = (above + rank > 0) & (above_mass + before + (mass >> _PART) >= needed)
        is_last = (above + rank + 1 >= length) | (above_mass + before + mass >= needed)
        end = tl.where(is_over, rank, tl.where(is_last, rank + 1, equal))
        ties = tl.minimum(ties, tl.min(tl.where(own, end, equal), axis=0))
    return ties


@triton.jit
def end_of_prefix(keys, masses, count, length, needed, from_last):
    """Find the shortest prefix of a list of this length or mass; see `kernels.radix_select.find_prefix`.

    Returns the last key, how many with that key belong to it, how many have it, and the length of the prefix.
    """
    low_key, high_key = tl.full((), 1, tl.int64) << 62, -(tl.full((), 1, tl.int64) << 62)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        key = tl.load(keys + at, mask=at < count, other=0)
        low_key = tl.minimum(low_key, tl.min(tl.where(at < count, key, low_key), axis=0))
        high_key = tl.maximum(high_key, tl.max(tl.where(at < count, key, high_key), axis=0))
    found, mass = _at_least(keys, masses, count, low_key)
    if (found >= length) | (mass >= needed):
        while low_key < high_key:  # the largest key at which the entries of at least it are enough
            middle = low_key + (high_key - low_key + 1) // 2
            found, mass = _at_least(keys, masses, count, middle)
            is_enough = (found >= length) | (mass >= needed)
            low_key = tl.where(is_enough, middle, low_key)
            high_key = tl.where(is_enough, high_key, middle - 1)
        found, mass = _at_least(keys, masses, count, low_key)
        above, above_mass = _at_least(keys, masses, count, low_key + 1)
        equal, equal_mass = found - above, mass - above_mass
        ties = _count_ties(
            keys, masses, count, low_key, equal, equal_mass, above, above_mass, length, needed, from_last
        )
        prefix = above + ties
    else:
        above, _ = _at_least(keys, masses, count, low_key + 1)
        equal, ties, prefix = found - above, found, found
    return low_key, ties, equal, prefix


@triton.jit
def _are_among(ids, length, wanted):
    """Tell which int32 numbers are among ids, ascending: bool[...]."""
    low, high = wanted * 0, wanted * 0 + length.to(tl.int32)
    steps = length
    while steps > 0:  # halve all ranges until they are empty
        middle = (low + high) >> 1
        is_below = tl.load(ids + middle, mask=low < high, other=0) < wanted
        low, high = tl.where((low < high) & is_below, middle + 1, low), tl.where((low < high) & is_below, high, middle)
        steps = steps >> 1
    return (low < length) & (tl.load(ids + low, mask=low < length, other=-1) == wanted)


@triton.jit
def count_among(keys, positions, count, last_key, ties, first, ids, length):
    """Count those of what `compact` would drop whose positions are among ids: int32[length], ascending."""
    found, seen = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        inside = at < count
        key, place = tl.load(keys + at, mask=inside, other=0), tl.load(positions + at, mask=inside, other=0)
        is_equal = (key == last_key) & inside
        rank = seen + tl.cumsum(is_equal.to(tl.int64), axis=0) - 1
        seen += tl.sum(is_equal.to(tl.int64), axis=0)
        is_dropped = ((key > last_key) & inside) | (is_equal & (rank >= first) & (rank < first + ties))
        found += tl.sum((is_dropped & _are_among(ids, length, place)).to(tl.int64), axis=0)
    return found


@triton.jit
def compact(numbers, positions, masses, keys, count, last_key, ties, first, is_dropping, spared, spared_len):
    """Keep what has a key above `last_key`, and the first `ties` with that key; or with is_dropping drop it.

    With fewer ties than none, all but the first -ties with that key. first: how many of those with that key come before
    those that are dropped. spared: int32[spared_len], ascending: positions that are not dropped. Returns how many are
    kept.
    """
    kept, seen = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        inside = at < count
        key = tl.load(keys + at, mask=inside, other=0)
        y, place = tl.load(numbers + at, mask=inside, other=0.0), tl.load(positions + at, mask=inside, other=0)
        mass = tl.load(masses + at, mask=inside, other=0)
        is_equal = (key == last_key) & inside
        rank = seen + tl.cumsum(is_equal.to(tl.int64), axis=0) - 1
        seen += tl.sum(is_equal.to(tl.int64), axis=0)
        is_tie = is_equal & (rank >= first) & tl.where(ties >= 0, rank < first + ties, rank >= -ties)
        is_own = (((key > last_key) | is_tie) != is_dropping) & inside
        if spared_len > 0:
            is_own = is_own | (_are_among(spared, spared_len, place) & inside)
        to = kept + tl.cumsum(is_own.to(tl.int64), axis=0) - 1
        kept += tl.sum(is_own.to(tl.int64), axis=0)
        tl.debug_barrier()
        tl.store(numbers + to, y, mask=is_own)
        tl.store(positions + to, place, mask=is_own)
        tl.store(masses + to, mass, mask=is_own)
        tl.debug_barrier()
    return kept
