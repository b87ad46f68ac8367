"""Sorting in compiled code that no choice of keys makes slow: a quicksort, as numpy's, can be made quadratic."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.compile import jit

__all__ = ["BINS", "Sorting", "sort", "sort_by_high"]

_BITS = 11
BINS = 1 << _BITS
_FEW = 512
"""Fewer keys than these are sorted without bins, which would have to be cleared."""


class Sorting(NamedTuple):
    """What is sorted, and room for it; arrays without an owner, so that calls count no references."""

    keys: Any
    """int64[n], at least 0."""
    values: Any
    """int32[n]: one for each key."""
    more_keys: Any
    """int64[n]: room."""
    more_values: Any
    """int32[n]: room."""
    bins: Any
    """int64[BINS]: room."""


@jit
def sort(own, count):
    """Sort the first `count` keys, and their values with them, ascending."""
    falls = np.int64(0)
    for i in range(1, count):
        falls += own.keys[i] < own.keys[i - 1]
    if falls == 0:
        return
    if count < _FEW:
        _sort_few(own.keys, own.values, count)
    else:
        _sort_many(own, count)


@jit
def _sift(keys, values, at, end):
    """Let the entry at `at` sink to its place in a heap of `end` entries, the largest first."""
    key, value = keys[at], values[at]
    while 2 * at + 1 < end:
        child = 2 * at + 1
        if child + 1 < end and keys[child + 1] > keys[child]:
            child += 1
        if keys[child] <= key:
            break
        keys[at], values[at] = keys[child], values[child]
        at = child
    keys[at], values[at] = key, value


@jit
def _sort_few(keys, values, count):
    """Sort by a heap: in O(count log count), whatever the keys are."""
    for at in range(count // 2 - 1, -1, -1):
        _sift(keys, values, at, count)
    for end in range(count - 1, 0, -1):
        keys[0], keys[end] = keys[end], keys[0]
        values[0], values[end] = values[end], values[0]
        _sift(keys, values, 0, end)


@jit
def _sort_many(own, count):
    """Sort by bins of 11 bits, the lowest first; bits in which all keys agree are passed over."""
    keys, values, bins = own.keys, own.values, own.bins
    varying = np.int64(0)
    for i in range(count):
        varying |= keys[i] ^ keys[0]
    for shift in range(0, 63, _BITS):
        if (varying >> shift) & (BINS - 1) == 0:
            continue
        for b in range(BINS):
            bins[b] = 0
        for i in range(count):
            bins[(keys[i] >> shift) & (BINS - 1)] += 1
        before = np.int64(0)
        for b in range(BINS):
            before, bins[b] = before + bins[b], before
        for i in range(count):
            b = (keys[i] >> shift) & (BINS - 1)
            own.more_keys[bins[b]], own.more_values[bins[b]] = keys[i], values[i]
            bins[b] += 1
        for i in range(count):
            keys[i], values[i] = own.more_keys[i], own.more_values[i]


@jit
def sort_by_high(keys, more_keys, bins, count):
    """Sort the first `count` of uint64 keys by their upper 32 bits, ascending; equal ones stay in order.

    more_keys: room for as many; bins: int32[3 BINS]. Returns whether the sorted ones lie in more_keys.
    """
    high, middle, mask, is_moved = np.uint64(2 * BINS), np.uint64(BINS), np.uint64(BINS - 1), False
    for b in range(3 * BINS):
        bins[b] = 0
    for i in range(count):
        key = keys[i]
        bins[(key >> np.uint64(32)) & mask] += 1
        bins[middle + ((key >> np.uint64(43)) & mask)] += 1
        bins[high + (key >> np.uint64(54))] += 1
    for digit in range(3):
        first, shift = np.uint64(digit * BINS), np.uint64(32 + digit * _BITS)
        own = more_keys if is_moved else keys
        if bins[first + ((own[0] >> shift) & mask)] == count:
            continue
        before = np.int32(0)
        for b in range(BINS):
            before, bins[digit * BINS + b] = before + bins[digit * BINS + b], before
        other = keys if is_moved else more_keys
        for i in range(count):
            key = own[i]
            at = first + ((key >> shift) & mask)
            other[bins[at]] = key
            bins[at] += 1
        is_moved = not is_moved
    return is_moved
