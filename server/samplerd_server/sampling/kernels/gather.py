"""Gathering the numbers that can pass the first filter, in order of position, so that filters read few numbers."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.kernels.arithmetic import ln, to_whole
from samplerd_server.sampling.kernels.blocks import BLOCK, block_maximum
from samplerd_server.sampling.kernels.compile import (
    as_bits,
    as_bits64,
    as_float,
    as_float64,
    at_least_64,
    count_ones,
    count_trailing_zeros,
    jit,
)
from samplerd_server.sampling.kernels.filter_table import EACH, JOINT, TOP_K, TOP_P, is_threshold, needs_of, threshold
from samplerd_server.sampling.kernels.radix_select import kth_largest
from samplerd_server.sampling.masses import PART

__all__ = ["count_above", "count_at_least", "deviation", "gather", "largest_of_blocks", "lower_bound", "sigma_bound"]


_GROUP = 64
_MANY = 24
"""With so many survivors among 64 it is faster to copy each number, kept or not, than to look for those that are."""


@jit
def largest_of_blocks(work, width, scratch):
    """Fill in the maximum of each block of x. Returns the largest."""
    blocks = (width + BLOCK - 1) // BLOCK
    top = np.float32(-np.inf)
    for b in range(blocks):
        scratch.maxima[b], _ = block_maximum(work.x[b * BLOCK : (b + 1) * BLOCK])
        top = max(top, scratch.maxima[b])
    return top


@jit
def gather(work, width, lowest, scratch):
    """Copy numbers of x of at least `lowest` to y, and their positions to at. Returns how many."""
    count = 0
    x, y, at, maxima = work.x, work.y, work.at, scratch.maxima
    for b in range((width + BLOCK - 1) // BLOCK):
        if not maxima[b] >= lowest:
            continue
        for low in range(b * BLOCK, min((b + 1) * BLOCK, width), _GROUP):
            high = min(low + _GROUP, width)
            found = at_least_64(np.uint64(x.ctypes.data) + np.uint64(4 * low), lowest)
            if count_ones(found) >= _MANY or high < low + _GROUP:
                for i in range(low, high):
                    y[count] = x[i]
                    at[count] = i
                    count += x[i] >= lowest
                continue
            while found:
                i = low + count_trailing_zeros(found)
                y[count] = x[i]
                at[count] = i
                count += 1
                found &= found - np.uint64(1)
    return count


@jit
def count_at_least(work, width, lowest):
    """Count numbers of x of at least `lowest`."""
    count = np.int64(0)
    x = work.x
    for i in range(width):
        count += x[i] >= lowest
    return count


@jit
def count_above(work, width, bound):
    """Count numbers of x above `bound`."""
    count = np.int64(0)
    x = work.x
    for i in range(width):
        count += x[i] > bound
    return count


@jit
def _power_of_two(n):
    return as_float64((n + 1023) << 52)


@jit
def deviation(y, count, top, scale):
    """Compute the population's standard deviation of logits y: float32[count], the largest being `top`: rule 4."""
    widest = np.int64(0)  # the bits of numbers >= 0 order like them, and integers are compared many at a time
    for i in range(count):
        widest = max(widest, as_bits64(top - np.float64(y[i])))
    power = (widest >> 52) - 1022 if widest else np.int64(0)
    unit = _power_of_two(scale.shift - power)
    gaps = np.int64(0)
    for i in range(count):
        gaps += to_whole((top - np.float64(y[i])) * unit)
    mean = np.float64(gaps) / np.float64(count) / unit
    inverse = _power_of_two(-power)
    squares = np.int64(0)
    for i in range(count):
        part = ((top - np.float64(y[i])) - mean) * inverse
        squares += to_whole(part * part * scale.unit)
    return np.sqrt(np.float64(squares) / np.float64(count) / scale.unit) * _power_of_two(power)


@jit
def lower_bound(row, number, scale, total, rest, width, work, scratch, cut):
    """Find a number below which nothing survives the first filter, by number; the lowest there is if unsure.

    cut: an exponent above which there is as much mass as top_p asks for; 0 if none is known.
    """
    lowest = np.float32(1e-45) if scale.is_weights else np.float32(-3.4028234663852886e38)
    blocks = (width + BLOCK - 1) // BLOCK
    least = max(1, row.min_tokens_to_keep)
    if number in (TOP_K, JOINT) and row.top_k > 0:
        k = max(row.top_k, least)
        return max(lowest, kth_largest(scratch.maxima, blocks, k, work)) if k <= blocks else lowest
    if scale.is_weights or least > 1:
        return lowest
    if number in (TOP_P, JOINT):
        # All that weighs less than (1 - p) total / V weighs less than (1 - p) total together; the rest is part of it.
        needed = ((1.0 - row.top_p) * np.float64(total) - np.float64(rest)) / width
    elif is_threshold(number) and not needs_of(row, number) & EACH:
        needed = threshold(number, row, scale.unit, np.float64(total), np.nan)
    else:
        return lowest
    # Less by what rule 2 lets a mass fall short, and by what rounding may add to it: then it is surely not kept.
    depth = max(ln(max(needed * (1.0 - 2e-6) - 1.0, 0.0) / scale.unit), (cut - 1e-6) * LN_2 if cut < 0 else -np.inf)
    bound = scale.top + min(depth, 0.0) * scale.temperature
    bound -= 1e-6 * (np.abs(bound) + np.abs(scale.top))
    return max(lowest, np.float32(max(bound, -3.4028234663852886e38)))


@jit
def sigma_bound(row, work, count, scale, top):
    """Find the smallest number that top_n_sigma keeps of y: float32[count], the largest being `top`; and how many."""
    y, x, at = work.y, work.x, work.at
    if scale.is_weights:
        for i in range(count):
            work.members[i] = as_bits(y[i])
            y[i] = np.float32(ln(np.float64(y[i])))
    else:
        for i in range(count):
            work.members[i] = _ordered_bits(as_bits(y[i]))
    top = np.float64(np.float32(ln(np.float64(top))) if scale.is_weights else np.float32(top))
    limit = row.top_n_sigma * deviation(y, count, top, scale)
    lowest, survivors = np.int32(0x7FFFFFFF), np.int64(0)
    for i in range(count):
        gap = top - np.float64(y[i])
        is_kept = gap - gap * 2.0**-PART <= limit
        survivors += is_kept
        lowest = min(lowest, work.members[i] if is_kept else np.int32(0x7FFFFFFF))
    if scale.is_weights:
        for i in range(count):
            y[i] = x[at[i]]
    return as_float(lowest if scale.is_weights else _ordered_bits(lowest)), survivors


@jit
def _ordered_bits(bits):
    """Flip the bits of negative numbers, so that integers order like them; and back."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
