"""Draws from a row as it stands: one pass over its numbers, then one block for each draw.

Law (docs/sampling.md): with masses m_i and their cumulative sums c_i in ascending id order, the draw for a uniform u is
the first id with c_i > u c_V. Each block has the sum of its masses relative to its own maximum; cumulative sums over
blocks are float64 in block order; the search inside a block adds the same masses in id order. A category of no mass is
never the first to pass anything, and where rounding leaves u c_V beyond the last sum the last category of positive mass
is drawn. Draws without replacement take what they draw out of a tree of sums: without.py.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY
from samplerd_server.sampling.kernels.compile import jit, shared
from samplerd_server.sampling.kernels.exp2 import exp
from samplerd_server.sampling.kernels.measure import (
    accumulate,
    exponent_of,
    fetch,
    inverse,
    measure_all,
    measure_block,
)
from samplerd_server.sampling.kernels.philox import uniform
from samplerd_server.sampling.kernels.search import first_largest, locate, search_blocks
from samplerd_server.sampling.kernels.without import draw_without

__all__ = ["draw_view", "draw_view_apart"]

_NOTHING, _OUTSIDE = int(RowErrorReason.NOTHING_TO_DRAW), int(RowErrorReason.OUTSIDE_CANDIDATES)


@jit
def draw_view(view, temperature, draws, without, rest, noise, samples, scratch):
    """Draw from a row.

    rest: ln of the mass of candidates that were not sent, at T = 1, -inf if there are none; a draw that falls
    there, past all others, is OUTSIDE_CANDIDATES.

    samples: int32[draws], positions within the row. Returns status and detail as RowResults has them (the step of
    NOTHING_TO_DRAW is left to the caller), then the largest exponent and the sum that `measure_view` would return,
    before any draw. TOO_FEW_TO_DRAW and OUTSIDE_CANDIDATES come with how many were drawn as their detail.
    """
    blocks = (view.width + BLOCK - 1) // BLOCK
    c = inverse(view, temperature)
    reason, at = measure_all(view, c, False, scratch)
    if reason:
        return reason, at, 0.0, 0.0
    nothing = np.float32(0) if view.is_weights else TINY
    best = first_largest(scratch.maxima, blocks, nothing)
    if best < 0:
        return _NOTHING, 0, 0.0, 0.0
    if without:
        return draw_without(view, temperature, draws, rest, noise, samples, scratch)
    if c < 0:
        _draw_largest(view, best, draws, samples, scratch)
        return 0, 0, 0.0, 0.0
    top, total = accumulate(blocks, c, view.is_weights, scratch)
    exponent = exponent_of(view, temperature, top)
    outside = 0.0 if rest == -np.inf else exp(min(rest - exponent, 700.0))
    ready = blocks - 1
    mass = scratch.mass if c > 0 else scratch.x
    for d in range(draws):
        target = uniform(noise.seed, noise.first + np.uint64(d), noise.row, noise.purpose) * (total + outside)
        if outside > 0 and not total > target:
            return _OUTSIDE, d, exponent, total
        b = search_blocks(scratch.ends, blocks, target)
        if b != ready:
            fetch(view, b, c, scratch.maxima[b], scratch)
            ready = b
        inside = locate(mass, scratch.scales[b], scratch.ends[b - 1] if b else 0.0, target)
        samples[d] = b * BLOCK + inside
    return 0, 0, exponent, total


@shared
def draw_view_apart(view, temperature, draws, without, rest, noise, samples, scratch):
    """Do what `draw_view` does, for kernels in which a row takes longer than a call with a thread's memory."""
    return draw_view(view, temperature, draws, without, rest, noise, samples, scratch)


@jit
def _draw_largest(view, best, draws, samples, scratch):
    """Draw the first of the largest numbers every time: T = 0 with replacement. best: the block that it is in."""
    measure_block(view, best, -1.0, False, scratch)
    inside = 0
    while scratch.x[inside] != scratch.maxima[best]:
        inside += 1
    for d in range(draws):
        samples[d] = best * BLOCK + inside
