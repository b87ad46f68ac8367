"""A thread's memory for rows that are adjusted and filtered, as kernels see it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["BINS", "Work"]

BINS = 2048
"""Buckets of a histogram: their counts and masses take 32 KiB, and three rounds of 11 bits sort out 32."""


class Work(NamedTuple):
    """Arrays as long as the widest row, unless said otherwise."""

    x: Any
    """float32: the row, adjusted; a whole number of blocks."""
    y: Any
    """float32: what is left of it in the filters, in order of position."""
    raw: Any
    """float32: candidates as sent, in order of id."""
    at: Any
    """int32: positions in x of what y holds."""
    mass: Any
    """float64: masses of y."""
    key: Any
    """uint64: what the filters sort y by, monotone."""
    members: Any
    """int32: indices of y that a cut is searched among."""
    counts: Any
    """int32[V]: a number for each token; all 0 between uses."""
    tokens: Any
    """int32: ids of candidates, ascending."""
    bin_count: Any
    """int64[BINS]."""
    bin_mass: Any
    """float64[BINS]."""
    spare: Any
    """int32: positions of the most likely."""
