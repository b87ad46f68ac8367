"""Ranks of drawn numbers in the total order: one pass over the row for each of a few draws, one for all of many.

Law: a number's rank is the count of those that precede it (larger, or equal with a lower id), and itself.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import allocating, as_bits, jit

__all__ = ["find_ranks", "rank_of"]

_FEW = 48
"""Draws up to which a pass for each, which fills vectors, is faster than one that searches for every number."""
_BUCKETS = 4096
"""Into these the numbers between the first and the last that were drawn are divided evenly."""


@jit
def rank_of(x, width, at):
    """Count the numbers of x: float32[width] that precede the one at a position in the total order, and it."""
    value = x[at]
    rank = np.int64(1)
    for i in range(width):
        rank += x[i] > value
    for i in range(at):
        rank += x[i] == value
    return rank


@jit
def _key(number, at):
    """Map the number at a position to one that is smaller the earlier it comes in the total order."""
    bits = as_bits(number + np.float32(0))  # -0 ties with 0
    ascending = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
    descending = np.int64(~ascending) + np.int64(1 << 31)
    return (np.uint64(descending) << np.uint64(32)) | np.uint64(at)


@allocating
def _sort(keys, count):
    keys[:count].sort()


@jit
def _bucket(number, first, factor):
    """Map a number to one of the buckets, in the total order; those before the first that was drawn to bucket 0."""
    return np.int64(min(max((first - np.float64(number)) * factor, 0.0), np.float64(_BUCKETS - 1)))


@jit
def _tally(keys, found, x, width, starts, tally):
    """Count, for each of the sorted keys, the numbers that precede it or are it and do not precede the key before.

    starts: int32[_BUCKETS + 1], room. A number is looked for among the few keys of its own bucket.
    """
    last, mask = keys[found - 1], np.uint64(0xFFFFFFFF)
    first, least = np.float64(x[keys[0] & mask]), np.float64(x[last & mask])
    factor = np.float64(_BUCKETS) / (first - least) if first > least else 0.0
    for b in range(_BUCKETS + 1):
        starts[b] = 0
    for j in range(found):
        starts[_bucket(x[keys[j] & mask], first, factor) + 1] += 1
        tally[j] = 0
    for b in range(_BUCKETS):
        starts[b + 1] += starts[b]
    for i in range(width):
        own = _key(x[i], i)
        if own > last:
            continue  # most numbers come after all that were drawn
        b = _bucket(x[i], first, factor)
        low, high = np.int64(starts[b]), np.int64(starts[b + 1])
        while low < high:
            half = (low + high) >> 1
            is_after = keys[half] < own
            low = half + 1 if is_after else low
            high = high if is_after else half
        tally[low] += 1


@jit
def find_ranks(positions, draws, width, certain, ranks, work):
    """Fill ranks: int32[draws] with those of positions: int32[draws] in work.x: float32[width]; 0 beyond `certain`.

    Leaves work.counts as it was: all 0. Overwrites work.key, work.spare and work.mass. O((V + S) log S).
    """
    if draws <= _FEW:
        for d in range(draws):
            rank = rank_of(work.x, width, np.int64(positions[d]))
            ranks[d] = rank if rank <= certain else 0
        return
    keys, counts, tally = work.key, work.counts, work.mass
    found = np.int64(0)
    for d in range(draws):  # each position once
        at = positions[d]
        if counts[at] == 0:
            counts[at] = 1
            keys[found] = _key(work.x[at], at)
            found += 1
    _sort(keys, found)
    _tally(keys, found, work.x, width, work.spare, tally)
    rank = np.int64(0)
    for j in range(found):
        rank += tally[j]
        counts[np.int64(keys[j] & np.uint64(0xFFFFFFFF))] = np.int32(rank if rank <= certain else 0)
    for d in range(draws):
        ranks[d] = counts[positions[d]]
    for j in range(found):
        counts[np.int64(keys[j] & np.uint64(0xFFFFFFFF))] = 0
