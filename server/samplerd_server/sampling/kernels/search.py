"""Searching: from a target on the cumulative sum to a block, and to a number inside it."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import jit

__all__ = ["first_largest", "locate", "search_blocks"]


@jit
def first_largest(maxima, blocks, nothing):
    """Find the first block with the largest maximum, -1 if that is `nothing`."""
    best = -1
    top = nothing
    for b in range(blocks):
        if maxima[b] > top:
            top = maxima[b]
            best = b
    return best


@jit
def search_blocks(ends, blocks, target):
    """Find the first block whose cumulative sum exceeds `target`; if none does, the last one that adds to the sum."""
    low, high = 0, blocks
    while low < high:
        middle = (low + high) >> 1
        if ends[middle] > target:
            high = middle
        else:
            low = middle + 1
    if low == blocks:
        low = blocks - 1
        while low > 0 and ends[low] == ends[low - 1]:
            low -= 1
    return low


@jit
def locate(mass, scale, before, target):
    """Find the first of mass: float32[BLOCK] at which before + scale * cumulative > target; else the last positive.

    Sixteen at a time, so that the chain of dependent additions is short.
    """
    last = 0
    for group in range(0, BLOCK, 16):
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for i in range(group, group + 16, 4):
            a += np.float64(mass[i])
            b += np.float64(mass[i + 1])
            c += np.float64(mass[i + 2])
            d += np.float64(mass[i + 3])
        s = (a + b) + (c + d)
        if before + s * scale > target and s > 0:
            return _locate_in_group(mass, group, scale, before, target)
        last = group if s > 0 else last
        before += s * scale
    for i in range(15, -1, -1):
        if mass[last + i] > 0:
            return last + i
    return last


@jit
def _locate_in_group(mass, group, scale, before, target):
    """Find the first of sixteen at which the sum exceeds the target; else the last positive one."""
    last = group
    inside = 0.0
    for i in range(group, group + 16):
        if mass[i] > 0:
            last = i
            inside += np.float64(mass[i])
            if before + inside * scale > target:
                return i
    return last
