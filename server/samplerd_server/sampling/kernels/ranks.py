"""Ranks of drawn numbers in the total order: one pass over the row for each of a few draws, one for all of many.

Law: a number's rank is the count of those that precede it (larger, or equal with a lower id), and itself.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import as_bits, jit

__all__ = ["find_ranks", "rank_of"]

_FEW = 48
"""Draws up to which a pass for each, which fills vectors, is faster than one that searches for every number."""


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
def _key(x, at):
    """Map a number to one that is smaller the earlier it comes in the total order."""
    bits = as_bits(x[at] + np.float32(0))  # -0 ties with 0
    ascending = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
    descending = np.int64(~ascending) + np.int64(1 << 31)
    return (np.uint64(descending) << np.uint64(32)) | np.uint64(at)


@jit
def find_ranks(positions, draws, width, certain, ranks, work):
    """Fill ranks: int32[draws] with those of positions: int32[draws] in work.x: float32[width]; 0 beyond `certain`.

    Leaves work.counts as it was: all 0. Overwrites work.key and work.mass. O((V + S) log S).
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
            keys[found] = _key(work.x, at)
            found += 1
    keys[:found].sort()
    tally[:found] = 0
    last = keys[found - 1]
    for i in range(width):
        own = _key(work.x, i)
        if own > last:
            continue  # most numbers come after all that were drawn
        low, high = np.int64(0), found
        while low < high:
            middle = (low + high) >> 1
            if keys[middle] < own:
                low = middle + 1
            else:
                high = middle
        tally[low] += 1  # it precedes this drawn number and all later ones, or is it
    rank = np.int64(0)
    for j in range(found):
        rank += tally[j]
        counts[np.int64(keys[j] & np.uint64(0xFFFFFFFF))] = np.int32(rank if rank <= certain else 0)
    for d in range(draws):
        ranks[d] = counts[positions[d]]
    for j in range(found):
        counts[np.int64(keys[j] & np.uint64(0xFFFFFFFF))] = 0
