"""Draws from a row as it stands: one pass over its numbers, then one block for each draw.

Law (docs/sampling.md): with masses m_i and their cumulative sums c_i in ascending id order, the draw for a uniform u is
the first id with c_i > u c_V. Each block has the sum of its masses relative to its own maximum; cumulative sums over
blocks are float64 in block order; the search inside a block adds the same masses in id order. A category of no mass is
never the first to pass anything, and where rounding leaves u c_V beyond the last sum the last category of positive mass
is drawn. Without replacement a drawn number is read as "never" from then on, and its block is measured again: no sum is
ever made by subtraction, so categories of any positive probability are reached once the likelier ones are gone.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0912, PLR0917 -- kernels have no keywords, and branch where a row does

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
from samplerd_server.sampling.kernels.exp2 import LN_2, LOG2_E, exp, exp2, ln, log2
from samplerd_server.sampling.kernels.memory import WORDS, mark
from samplerd_server.sampling.kernels.philox import uniform
from samplerd_server.sampling.kernels.search import first_largest, locate, search_blocks

__all__ = ["draw_view", "find_bad", "is_bad", "measure_view"]

_NAN, _INFINITE = int(RowErrorReason.NAN), int(RowErrorReason.POSITIVE_INFINITY)
_NEGATIVE, _NOTHING = int(RowErrorReason.NEGATIVE_WEIGHT), int(RowErrorReason.NOTHING_TO_DRAW)
_TOO_FEW, _OUTSIDE = int(RowErrorReason.TOO_FEW_TO_DRAW), int(RowErrorReason.OUTSIDE_CANDIDATES)
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
def _measure(view, block, c, has_taken, scratch):
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
    weigh_block(x, maximum, np.float32(min(c, 3e38)), scratch.mass)
    return maximum, bits, sum_block(scratch.mass, scratch.half)


@jit
def _fetch(view, block, c, maximum, has_taken, scratch):
    """Weigh one block again as _measure did, given its maximum, without summing it. Not for c < 0."""
    fill = np.float32(0) if view.is_weights else TINY
    low = np.int64(block) * BLOCK
    load_block(view.address, view.dtype, low, min(BLOCK, view.width - low), fill, scratch.x)
    if has_taken:
        _take_out(scratch.x, scratch.taken, block, fill)
    if c > 0 and view.is_weights:
        weigh_powers(scratch.x, maximum, c * LN_2, scratch.mass)
    elif c > 0:
        weigh_block(scratch.x, maximum, np.float32(min(c, 3e38)), scratch.mass)


@jit
def _accumulate(blocks, c, is_weights, scratch):
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
    return top, _cumulate(0, blocks, scratch)


@jit
def _cumulate(first, blocks, scratch):
    """Cumulate the sums of blocks from the first that changed on. Returns the total."""
    total = scratch.ends[first - 1] if first else 0.0
    for b in range(first, blocks):
        if scratch.sums[b] > 0:
            total += scratch.sums[b] * scratch.scales[b]
        scratch.ends[b] = total
    return total


@jit
def _inverse(view, temperature):
    """Tell _measure how to weigh: log2(e) / T; 0 for weights at T = 1; -1 for T = 0."""
    if temperature == 0:
        return -1.0
    if view.is_weights and temperature == 1:
        return 0.0
    return LOG2_E / temperature


@jit
def _measure_all(view, c, has_taken, scratch):
    """Measure every block. Returns the reason and id of the first bad number, or zeros."""
    for b in range((view.width + BLOCK - 1) // BLOCK):
        scratch.maxima[b], bits, scratch.sums[b] = _measure(view, b, c, has_taken, scratch)
        if is_bad(scratch.maxima[b], bits, view.is_weights):
            return find_bad(scratch.x, b * BLOCK, view.is_weights)
    return 0, 0


@jit
def _exponent(view, temperature, top):
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
    c = _inverse(view, temperature)
    _measure_all(view, c, has_taken, scratch)
    top, total = _accumulate((view.width + BLOCK - 1) // BLOCK, c, view.is_weights, scratch)
    return _exponent(view, temperature, top), total


@jit
def draw_view(view, temperature, draws, without, rest, noise, samples, scratch):
    """Draw from a row.

    rest: ln of the mass of candidates that were not sent, at T = 1, -inf if there are none; a draw that falls
    there, past all others, is OUTSIDE_CANDIDATES.

    samples: int32[draws], positions within the row. Returns status and detail as RowResults has them (the step of
    NOTHING_TO_DRAW is left to the caller), then the largest exponent and the sum that measure_view would return.
    After draws without replacement the bits of what was drawn are set: the caller clears them. TOO_FEW_TO_DRAW and
    OUTSIDE_CANDIDATES come with how many were drawn as their detail.
    """
    blocks = (view.width + BLOCK - 1) // BLOCK
    c = _inverse(view, temperature)
    reason, at = _measure_all(view, c, False, scratch)
    if reason:
        return reason, at, 0.0, 0.0
    nothing = np.float32(0) if view.is_weights else TINY
    if first_largest(scratch.maxima, blocks, nothing) < 0:
        return _NOTHING, 0, 0.0, 0.0
    top, total = _accumulate(blocks, c, view.is_weights, scratch)
    first_total = total
    exponent = _exponent(view, temperature, top) if c >= 0 else 0.0
    ready = blocks - 1
    target = 0.0
    for d in range(draws):
        if c < 0:
            b = first_largest(scratch.maxima, blocks, nothing)
        else:
            outside = 0.0 if rest == -np.inf else exp(min(rest - _exponent(view, temperature, top), 700.0))
            target = uniform(noise.seed, noise.first + np.uint64(d), noise.row, noise.purpose) * (total + outside)
            if outside > 0 and not total > target:
                return _OUTSIDE, d, exponent, first_total
            b = search_blocks(scratch.ends, blocks, target) if total > 0 else -1
        if b < 0:
            return _TOO_FEW, d, exponent, first_total
        if b != ready:
            if c < 0:
                _measure(view, b, c, without, scratch)
            else:
                _fetch(view, b, c, scratch.maxima[b], without, scratch)
            ready = b
        inside = 0
        if c < 0:
            while scratch.x[inside] != scratch.maxima[b]:
                inside += 1
        else:
            mass = scratch.mass if c > 0 else scratch.x
            inside = locate(mass, scratch.scales[b], scratch.ends[b - 1] if b else 0.0, target)
        samples[d] = b * BLOCK + inside
        if without:
            mark(scratch.taken, b * BLOCK + inside)
            if c < 0 or scratch.x[inside] == scratch.maxima[b]:
                scratch.maxima[b], _, scratch.sums[b] = _measure(view, b, c, True, scratch)
                if c >= 0:
                    top, total = _accumulate(blocks, c, view.is_weights, scratch)
            else:  # the same numbers as _measure would find, since the maximum stays
                scratch.x[inside] = nothing
                scratch.mass[inside] = 0
                scratch.sums[b] = sum_block(scratch.mass if c > 0 else scratch.x, scratch.half)
                total = _cumulate(b, blocks, scratch)
    return 0, 0, exponent, first_total
