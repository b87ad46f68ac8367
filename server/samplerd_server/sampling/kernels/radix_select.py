"""Where a prefix of the total order ends, without sorting.

The order is (key descending, position ascending). The end of its shortest prefix with a given count or mass is found
by histograms over the bits of the keys, from the highest that differ: each round keeps the members of one bucket, so
that it looks at few numbers from the second round on, and three rounds do for any 32 bits. (Radix selection; for
top-p as in AIR top-k, Zhang et al., SC 2023.) Masses are whole numbers, whose sums depend on no order.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0912, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import as_bits, as_float, jit
from samplerd_server.sampling.masses import PART

__all__ = [
    "ANY_MASS",
    "count_equal",
    "fill_keys",
    "find_prefix",
    "keep",
    "key_of",
    "key_of_distance",
    "kth_largest",
    "number_of",
]

_SMALL = 2048
"""Up to this many members, buckets are 8 bits wide: clearing and passing 2,048 would cost more than a further round."""
_ONE = np.uint64(1)
ANY_MASS = np.int64(0x7FFFFFFFFFFFFFFF)
"""A sum of masses that no prefix reaches."""


@jit
def key_of(x):
    """Map a float32 to a uint64 that orders like it; -0.0 as 0.0."""
    bits = as_bits(x + np.float32(0))
    flipped = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
    return np.uint64(np.int64(flipped) + np.int64(0x80000000))


@jit
def number_of(key):
    """Give the float32 that has a key."""
    flipped = np.int32(np.int64(key) - np.int64(0x80000000))
    return as_float(flipped ^ ((flipped >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@jit
def key_of_distance(distance):
    """Map an int64 >= 0 to a uint64 that orders against it: the smallest distance first."""
    return np.uint64(0x7FFFFFFFFFFFFFFF) - np.uint64(distance)


@jit
def fill_keys(y, key, count):
    """Fill in the keys of y: float32[count]. Returns the smallest and the largest."""
    low, high = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
    for i in range(count):
        own = key_of(y[i])
        key[i] = own
        low = min(low, own)
        high = max(high, own)
    return low, high


@jit
def _bit_length(value):
    length = 0
    while value:
        value >>= _ONE
        length += 1
    return length


@jit
def _narrow(key, members, count, shift, digit, mask):
    """Keep those members whose bits from `shift` are `digit`. Returns how many."""
    kept = 0
    for i in range(count):
        member = members[i]
        members[kept] = member
        kept += ((key[member] >> np.uint64(shift)) & mask) == digit
    return kept


@jit
def _narrow_all(key, members, count, shift, digit, mask):
    """List those of all numbers whose bits from `shift` are `digit`. Returns how many."""
    kept = 0
    for i in range(count):
        members[kept] = i
        kept += ((key[i] >> np.uint64(shift)) & mask) == digit
    return kept


@jit
def _count_all(key, mass, count, shift, mask, with_mass, work):
    """Add up how many numbers there are in each bucket, and what they weigh unless that is not asked."""
    bin_count, bin_mass = work.bin_count, work.bin_mass
    if with_mass:
        for i in range(count):
            digit = np.int64((key[i] >> np.uint64(shift)) & mask)
            bin_count[digit] += 1
            bin_mass[digit] += mass[i]
    else:
        for i in range(count):
            bin_count[np.int64((key[i] >> np.uint64(shift)) & mask)] += 1


@jit
def _count_members(key, mass, count, shift, mask, work):
    """Do the same for those listed in members."""
    members, bin_count, bin_mass = work.members, work.bin_count, work.bin_mass
    for i in range(count):
        member = members[i]
        digit = np.int64((key[member] >> np.uint64(shift)) & mask)
        bin_count[digit] += 1
        bin_mass[digit] += mass[member]


@jit
def find_prefix(low, high, mass, count, least_count, least_mass, from_last, work):
    """Find the shortest prefix of `count` numbers with `least_count` of them, or a mass of `least_mass`.

    By their keys in work.key, the smallest of which is `low`, the largest `high`; mass: int64[count].
    Whichever is reached first; the count may be infinite, the mass ANY_MASS. A number is not kept for the sake of less
    than the 2^PART-th part of itself (rule 2 of `sampling.masses`). Returns a key, how many numbers with that key (the
    first ones, or with `from_last` the last) belong to the prefix beside all with a larger key, and the length of the
    prefix: all of them if neither is reached.
    """
    key, members, bin_count, bin_mass = work.key, work.members, work.bin_count, work.bin_mass
    width = _bit_length(low ^ high)
    above, above_mass = 0, np.int64(0)
    left, is_listed = count, False
    while width > 0 and left > 1:
        bits = min(8 if left <= _SMALL else 11, width)
        shift = width - bits
        mask = np.uint64((1 << bits) - 1)
        bins = 1 << bits
        bin_count[:bins] = 0
        bin_mass[:bins] = 0
        if is_listed:
            _count_members(key, mass, left, shift, mask, work)
        else:
            _count_all(key, mass, left, shift, mask, least_mass != ANY_MASS, work)
        digit = bins - 1
        while True:
            own, own_mass = bin_count[digit], bin_mass[digit]
            if own and (above + own >= least_count or above_mass + own_mass >= least_mass):
                break
            if above + own == count or digit == 0:
                return low, count, count
            above += own
            above_mass += own_mass
            digit -= 1
        if is_listed:
            left = _narrow(key, members, left, shift, np.uint64(digit), mask)
        else:
            left = _narrow_all(key, members, left, shift, np.uint64(digit), mask)
            is_listed = True
        width = shift
    if not is_listed:
        for i in range(left):
            members[i] = i
    for taken in range(left):
        own = mass[members[left - 1 - taken if from_last else taken]]
        if above + taken > 0 and above_mass + (own >> PART) >= least_mass:
            return key[members[0]], taken, above + taken
        above_mass += own
        if above + taken + 1 >= least_count or above_mass >= least_mass:
            return key[members[0]], taken + 1, above + taken + 1
    return key[members[0]], left, above + left


@jit
def count_equal(work, count, last_key):
    """Count the keys that are `last_key`."""
    equal, key = np.int64(0), work.key
    for i in range(count):
        equal += key[i] == last_key
    return equal


@jit
def keep(work, count, last_key, ties):
    """Keep of y, at and mass what has a key above `last_key`, and the first `ties` with that key. Returns how many.

    With fewer ties than none, all but the first -ties with that key are kept.
    """
    kept = 0
    if ties < 0:
        keys, y, at, mass = work.key, work.y, work.at, work.mass
        for i in range(count):
            key = keys[i]
            is_tie = key == last_key
            y[kept] = y[i]
            at[kept] = at[i]
            mass[kept] = mass[i]
            kept += (key > last_key) | (is_tie and ties >= 0)
            ties += is_tie
        return kept
    keys, y, at, mass = work.key, work.y, work.at, work.mass
    for i in range(count):
        key = keys[i]
        is_tie = key == last_key and ties > 0
        ties -= is_tie
        y[kept] = y[i]
        at[kept] = at[i]
        mass[kept] = mass[i]
        kept += (key > last_key) | is_tie
    return kept


@jit
def kth_largest(maxima, blocks, k, work):
    """Find the k-th largest of maxima: float32[blocks]; k <= blocks."""
    low, high = fill_keys(maxima, work.key, blocks)
    work.mass[:blocks] = 0
    last_key, _, _ = find_prefix(low, high, work.mass, blocks, k, ANY_MASS, False, work)
    for b in range(blocks):
        if work.key[b] == last_key:
            return maxima[b]
    return np.float32(-np.inf)
