"""A thread's memory for a row in blocks, and how a kernel names a row's numbers and noise."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import carray, float32_at, float64_at, jit, uint64_at

__all__ = ["WORDS", "Noise", "Scratch", "View", "cut_scratch", "mark", "unmark"]

_ONE = np.uint64(1)
WORDS = BLOCK // 64
"""uint64 words that hold one bit for each number of a block."""


class View(NamedTuple):
    """The numbers of a row, where they lie."""

    address: Any
    """uint64."""
    dtype: Any
    """core.enums.Dtype."""
    width: Any
    """How many, int64."""
    is_weights: Any
    """Whether they are weights rather than logits."""


class Noise(NamedTuple):
    """Which uniforms a row draws with: see philox.py."""

    seed: Any
    first: Any
    """Index of the first draw."""
    row: Any
    purpose: Any


class Scratch(NamedTuple):
    """A thread's memory for one row in blocks."""

    x: Any
    """float32[BLOCK]: the numbers of one block."""
    mass: Any
    """float32[BLOCK]: their masses."""
    half: Any
    """float64[BLOCK / 2]: partial sums of one block."""
    maxima: Any
    """float32[blocks]: the largest number of each block."""
    sums: Any
    """float64[blocks]: the sum of each block, relative to its maximum."""
    scales: Any
    """float64[blocks]: the factor that brings the sum to the scale of the largest maximum."""
    ends: Any
    """float64[blocks]: cumulative sums."""
    taken: Any
    """uint64[8 blocks]: a bit for each number that was drawn already; all 0 between rows."""
    tree: Any
    """uint64: address of memory for a tree of as many blocks, see mass_tree.py."""


@jit
def cut_scratch(space):
    """Divide a thread's flat arrays; `space` is the address of where they lie, see workspace.py."""
    places = carray(uint64_at(np.uint64(space)), 5)
    singles, doubles, bits, blocks = places[0], places[1], places[2], np.int64(places[3])
    half = BLOCK // 2
    block_bytes, maxima = np.uint64(4 * BLOCK), np.uint64(8 * BLOCK)
    per_block = np.uint64(8 * blocks)
    sums = doubles + np.uint64(8 * half)
    return Scratch(
        carray(float32_at(singles), BLOCK),
        carray(float32_at(singles + block_bytes), BLOCK),
        carray(float64_at(doubles), half),
        carray(float32_at(singles + maxima), blocks),
        carray(float64_at(sums), blocks),
        carray(float64_at(sums + per_block), blocks),
        carray(float64_at(sums + np.uint64(2) * per_block), blocks),
        carray(uint64_at(bits), blocks * WORDS),
        places[4],
    )


@jit
def mark(taken, at):
    """Set the bit of number `at`."""
    taken[at // 64] |= _ONE << np.uint64(at % 64)


@jit
def unmark(taken, at):
    """Clear the bit of number `at`, and its neighbours': for clearing all."""
    taken[at // 64] = np.uint64(0)
