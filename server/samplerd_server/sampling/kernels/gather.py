"""Gathering the numbers that can pass the first filter, in order of position, so that filters read few numbers."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK, block_maximum
from samplerd_server.sampling.kernels.compile import as_bits, as_float, jit
from samplerd_server.sampling.kernels.exp2 import exp, ln
from samplerd_server.sampling.kernels.filter_table import EACH, JOINT, TOP_K, TOP_P, is_threshold, needs_of, threshold
from samplerd_server.sampling.kernels.radix_select import kth_largest

__all__ = ["count_at_least", "deviation", "gather", "largest_of_blocks", "lower_bound", "sigma_bound"]


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
        for i in range(b * BLOCK, min((b + 1) * BLOCK, width)):
            y[count] = x[i]
            at[count] = i
            count += x[i] >= lowest
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
def deviation(work, count):
    """Compute the population standard deviation of y: float32[count], as logits."""
    a, b = 0.0, 0.0
    whole = count & ~1
    for i in range(0, whole, 2):
        a += np.float64(work.y[i])
        b += np.float64(work.y[i + 1])
    for i in range(whole, count):
        a += np.float64(work.y[i])
    mean = (a + b) / count
    a, b = 0.0, 0.0
    for i in range(0, whole, 2):
        a += (np.float64(work.y[i]) - mean) ** 2
        b += (np.float64(work.y[i + 1]) - mean) ** 2
    for i in range(whole, count):
        a += (np.float64(work.y[i]) - mean) ** 2
    return np.sqrt((a + b) / count)


@jit
def lower_bound(row, number, scale, total, width, work, scratch):
    """Find a number below which nothing survives the first filter, by number; the lowest there is if unsure."""
    lowest = np.float32(1e-45) if scale.is_weights else np.float32(-3.4028234663852886e38)
    blocks = (width + BLOCK - 1) // BLOCK
    least = max(1, row.min_tokens_to_keep)
    if number in (TOP_K, JOINT) and row.top_k > 0:
        k = max(row.top_k, least)
        return max(lowest, kth_largest(scratch.maxima, blocks, k, work)) if k <= blocks else lowest
    if scale.is_weights or least > 1:
        return lowest
    if number in (TOP_P, JOINT):
        # All that weighs less than (1 - p) total / V weighs less than (1 - p) total together.
        depth = ln((1.0 - row.top_p) * total / width)
    elif is_threshold(number) and not needs_of(row, number) & EACH:
        depth = ln(threshold(number, row, 1.0, total, np.nan))  # the largest mass is 1
    else:
        return lowest
    bound = np.float64(scale.top) + min(depth, 0.0) * scale.temperature
    bound -= 1e-6 * (np.abs(bound) + np.abs(np.float64(scale.top)))
    return max(lowest, np.float32(max(bound, -3.4e38)))


@jit
def sigma_bound(row, work, count, scale):
    """Compute max - n standard deviations of logits, as the smallest number that top_n_sigma keeps.

    y: float32[count] holds all that may be drawn; of weights, it becomes ln w. Returns the bound and how many it keeps.
    """
    n = row.top_n_sigma
    top = np.float64(scale.top)
    if scale.is_weights:
        for i in range(count):
            work.y[i] = np.float32(ln(np.float64(work.y[i])))
        top = np.float64(np.float32(ln(top)))
    lowest = _round_up(top - n * deviation(work, count))
    survivors = 0
    for i in range(count):
        survivors += work.y[i] >= lowest
    return _round_up(min(exp(np.float64(lowest)), np.float64(scale.top))) if scale.is_weights else lowest, survivors


@jit
def _round_up(bound):
    """Round to the smallest float32 that is not below: x >= bound then says the same in float32."""
    rounded = np.float32(bound)
    if np.float64(rounded) < bound:
        bits = as_bits(rounded)
        rounded = as_float(np.int32(bits + 1)) if rounded >= 0 else as_float(np.int32(bits - 1))
    return rounded
