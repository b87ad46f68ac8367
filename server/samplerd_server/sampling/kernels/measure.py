"""Measuring a row: one pass over its numbers, which leaves the maximum and the sum of each block.

Law: the masses of a block are relative to the block's own maximum, and so is its sum; `accumulate` brings the sums of
all blocks to the scale of the largest maximum and cumulates them in float64, in block order.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.sampling.kernels.blocks import (
    BLOCK,
    TINY,
    block_maximum,
    load_block,
    sum_block,
    weigh_block,
    weigh_powers,
)
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.exp2 import LN_2, LOG2_E, exp2, ln, log2
from samplerd_server.sampling.kernels.memory import WORDS

__all__ = [
    "accumulate",
    "exponent_of",
    "fetch",
    "find_bad",
    "inverse",
    "is_bad",
    "measure_all",
    "measure_block",
    "measure_view",
]

_NAN, _INFINITE = int(RowErrorReason.NAN), int(RowErrorReason.POSITIVE_INFINITY)
_NEGATIVE = int(RowErrorReason.NEGATIVE_WEIGHT)
_NEGATIVE_ZERO, _NEGATIVE_INFINITY = np.uint32(0x80000000), np.uint32(0xFF800000)
_ONE = np.uint64(1)


@jit
def is_bad(maximum, bits, is_weights):
    """Tell whether a block of this maximum and these largest bits holds a NaN, +inf or a negative weight."""
    return not (maximum < np.inf) or bits > (_NEGATIVE_ZERO if is_weights else _NEGATIVE_INFINITY)


@jit
def find_bad(x, low, is_weights):
    """Find the reason and the id of the first number of a bad block that is not allowed."""
    for i in range(BLOCK):
        if np.isnan(x[i]):
            return _NAN, low + i
        if x[i] == np.inf:
            return _INFINITE, low + i
        if is_weights and x[i] < 0:
            return _NEGATIVE, low + i
    return 0, 0


@jit
def _take_out(x, taken, block, fill):
    """Overwrite the numbers of this block that were drawn already: those whose bits in `taken` are set."""
    for word in range(WORDS):
        bits = taken[block * WORDS + word]
        if bits:
            for j in range(64):
                if (bits >> np.uint64(j)) & _ONE:
                    x[word * 64 + j] = fill


@jit
def measure_block(view, block, c, has_taken, scratch):
    """Read, weigh and sum one block. Returns its maximum, its largest bits and its sum, relative to the maximum.

    With c = 0 the numbers are weights at T = 1 and are masses as they are; with c < 0 nothing is weighed (argmax).
    """
    x = scratch.x
    fill = np.float32(0) if view.is_weights else TINY
    low = np.int64(block) * BLOCK
    load_block(view.address, view.dtype, low, min(BLOCK, view.width - low), fill, x)
    if has_taken:
        _take_out(x, scratch.taken, block, fill)
    maximum, bits = block_maximum(x)
    if c < 0 or is_bad(maximum, bits, view.is_weights):
        return maximum, bits, 0.0
    if c == 0:
        return maximum, bits, sum_block(x, scratch.half)
    if view.is_weights:
        if maximum > 0:
            weigh_powers(x, maximum, c * LN_2, scratch.mass)
            return maximum, bits, sum_block(scratch.mass, scratch.half)
        return maximum, bits, 0.0
    if maximum == -np.inf:
        return maximum, bits, 0.0
    weigh_block(x, maximum, c, scratch.mass)
    return maximum, bits, sum_block(scratch.mass, scratch.half)


@jit
def fetch(view, block, c, maximum, scratch):
    """Weigh one block again as `measure_block` did, given its maximum, without summing it. Not for c < 0."""
    fill = np.float32(0) if view.is_weights else TINY
    low = np.int64(block) * BLOCK
    load_block(view.address, view.dtype, low, min(BLOCK, view.width - low), fill, scratch.x)
    if c > 0 and view.is_weights:
        weigh_powers(scratch.x, maximum, c * LN_2, scratch.mass)
    elif c > 0:
        weigh_block(scratch.x, maximum, c, scratch.mass)


@jit
def accumulate(blocks, c, is_weights, scratch):
    """Bring the sums of all blocks to the scale of the largest maximum, and cumulate. Returns it, the total."""
    top = TINY
    for b in range(blocks):
        top = max(top, scratch.maxima[b])
    if c == 0:
        scratch.scales[:blocks] = 1.0
    elif is_weights:
        for b in range(blocks):
            scratch.scales[b] = (
                exp2(log2(np.float64(scratch.maxima[b]) / np.float64(top)) * (c * LN_2)) if top > 0 else 0.0
            )
    else:
        for b in range(blocks):
            scratch.scales[b] = exp2((np.float64(scratch.maxima[b]) - np.float64(top)) * min(c, 1e300))
    total = 0.0
    for b in range(blocks):
        if scratch.sums[b] > 0:
            total += scratch.sums[b] * scratch.scales[b]
        scratch.ends[b] = total
    return top, total


@jit
def inverse(view, temperature):
    """Tell `measure_block` how to weigh: log2(e) / T; 0 for weights at T = 1; -1 for T = 0."""
    if temperature == 0:
        return -1.0
    if view.is_weights and temperature == 1:
        return 0.0
    return LOG2_E / temperature


@jit
def measure_all(view, c, has_taken, scratch):
    """Measure every block. Returns the reason and id of the first bad number, or zeros."""
    for b in range((view.width + BLOCK - 1) // BLOCK):
        scratch.maxima[b], bits, scratch.sums[b] = measure_block(view, b, c, has_taken, scratch)
        if is_bad(scratch.maxima[b], bits, view.is_weights):
            return find_bad(scratch.x, b * BLOCK, view.is_weights)
    return 0, 0


@jit
def exponent_of(view, temperature, top):
    """Compute the exponent that masses are relative to: the largest number's; 0 for weights at T = 1."""
    if view.is_weights:
        return 0.0 if temperature == 1 or not top > 0 else ln(np.float64(top)) / temperature
    return np.float64(top) / temperature


@jit
def measure_view(view, temperature, has_taken, scratch):
    """Weigh a row without drawing: an exponent t and the sum of exp(exponent - t), of what is not taken.

    Exponents are logits / T (ln w / T for weights). t is the largest, or 0 for weights at T = 1. The row is a
    checked one; T > 0.
    """
    c = inverse(view, temperature)
    measure_all(view, c, has_taken, scratch)
    top, total = accumulate((view.width + BLOCK - 1) // BLOCK, c, view.is_weights, scratch)
    return exponent_of(view, temperature, top), total
