"""A thread's memory for rows that are adjusted and filtered, as kernels see it."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.compile import carray, float32_at, float64_at, int32_at, int64_at, jit, uint64_at

__all__ = ["BINS", "SHARED_KEY", "Work", "disown"]

SHARED_KEY = 8
"""Words that say which list is remembered, and how long it is."""

BINS = 2048
"""Buckets of a histogram: their counts and masses take 32 KiB, and three rounds of 11 bits cover all 32."""


class Work(NamedTuple):
    """Arrays as long as the widest row, unless said otherwise."""

    x: Any
    """float32: the row, adjusted; a whole number of blocks."""
    y: Any
    """float32: the numbers that the filters have kept so far, in order of position."""
    raw: Any
    """float32: candidates as sent, in order of id."""
    at: Any
    """int32: positions in x of what y holds."""
    mass: Any
    """int64: masses of y, in units (`sampling.masses`)."""
    residual: Any
    """float64: the memory of mass once more: for biases before the filters, and for verification after them."""
    key: Any
    """uint64: what the filters sort y by, monotone."""
    members: Any
    """int32[+ 1]: indices of y that the end of a prefix is searched among; before that, distinct tokens of history."""
    counts: Any
    """int32[V]: a number for each token; all 0 between uses."""
    tokens: Any
    """int32: ids of candidates, ascending."""
    bin_count: Any
    """int64[BINS]."""
    bin_mass: Any
    """int64[BINS]."""
    places: Any
    """int32[V]: 1 + the position of each candidate, if `find_token` is to look here; all 0 between uses."""
    has_places: Any
    """int64[1]: whether it is to look there."""
    shared_ids: Any
    """int32[3 V]: see shared_lists.py."""
    shared_values: Any
    """int32[3 V]."""
    shared_keys: Any
    """uint64[3 SHARED_KEY]."""
    spare: Any
    """int32: positions of the most likely."""


@jit
def disown(work):
    """Make unowned views of the same arrays, so that passing them on counts no references."""
    return Work(
        carray(float32_at(np.uint64(work.x.ctypes.data)), len(work.x)),
        carray(float32_at(np.uint64(work.y.ctypes.data)), len(work.y)),
        carray(float32_at(np.uint64(work.raw.ctypes.data)), len(work.raw)),
        carray(int32_at(np.uint64(work.at.ctypes.data)), len(work.at)),
        carray(int64_at(np.uint64(work.mass.ctypes.data)), len(work.mass)),
        carray(float64_at(np.uint64(work.mass.ctypes.data)), len(work.mass)),
        carray(uint64_at(np.uint64(work.key.ctypes.data)), len(work.key)),
        carray(int32_at(np.uint64(work.members.ctypes.data)), len(work.members)),
        carray(int32_at(np.uint64(work.counts.ctypes.data)), len(work.counts)),
        carray(int32_at(np.uint64(work.tokens.ctypes.data)), len(work.tokens)),
        carray(int64_at(np.uint64(work.bin_count.ctypes.data)), len(work.bin_count)),
        carray(int64_at(np.uint64(work.bin_mass.ctypes.data)), len(work.bin_mass)),
        carray(int32_at(np.uint64(work.places.ctypes.data)), len(work.places)),
        carray(int64_at(np.uint64(work.has_places.ctypes.data)), 1),
        carray(int32_at(np.uint64(work.shared_ids.ctypes.data)), len(work.shared_ids)),
        carray(int32_at(np.uint64(work.shared_values.ctypes.data)), len(work.shared_values)),
        carray(uint64_at(np.uint64(work.shared_keys.ctypes.data)), len(work.shared_keys)),
        carray(int32_at(np.uint64(work.spare.ctypes.data)), len(work.spare)),
    )
