"""The memory of a tree of sums of masses, from which numbers are taken out: mass_sums.py has its law.

Shape. It depends on the row's width alone: sixteen numbers are a group, eight groups a part, four parts a block
(`blocks.BLOCK`); from there on eight are a node, eight nodes a node of the level above, up to one root.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import carray, float32_at, float64_at, int64_at, jit, uint8_at

__all__ = ["FAN", "GROUP", "GROUPS", "PARTS", "TOGETHER", "MassTree", "cut_tree", "tree_bytes"]

FAN = 8
"""Children of a node: their sums fill a cache line."""
GROUP = 16
"""Numbers in a group: their masses fill a cache line."""
GROUPS, PARTS = BLOCK // GROUP, BLOCK // GROUP // FAN
"""Groups and parts of a block."""
TOGETHER = 32
"""Draws whose memory is asked for before the first of them is made."""
_LEVELS = 12


class MassTree(NamedTuple):
    """A tree of `blocks` blocks of numbers; R is `blocks` rounded up to a multiple of eight."""

    blocks: Any
    levels: Any
    """Levels of nodes above the blocks: one at least."""
    mass: Any
    """float32[R * BLOCK]: masses relative to the block's largest; those of opened blocks are written alone."""
    groups: Any
    """int64[R * GROUPS]: sums of groups, of opened blocks."""
    parts: Any
    """int64[R * PARTS]: sums of parts, of opened blocks."""
    totals: Any
    """int64[R]: sums of blocks."""
    grains: Any
    """float64[R]: units in a mass of 1."""
    is_open: Any
    """uint8[R]: whether the masses of a block have been written."""
    maxima: Any
    """float32[R]: the largest number of each block when it was last weighed."""
    sums: Any
    """float64[R]: the sum of each block as it was measured, relative to its maximum."""
    bases: Any
    """float64[R]: a block's unit is 2^(base - 51), relative to the row's largest mass (weights at T = 1: to 1)."""
    slots: Any
    """int64: the sums of the children of every node, in the node's units, level by level."""
    shifts: Any
    """uint8: for each slot, the binary digits by which its node's unit is larger than its child's."""
    node_bases: Any
    """float64: a node's unit is 2^(base + fine): `base` may be of any size, `fine` counts bits exactly."""
    node_fines: Any
    """int64."""
    firsts: Any
    """int64[levels]: the first slot of each level; a level's nodes are numbered from an eighth of it on."""
    counts: Any
    """int64[levels]: nodes of each level."""
    child_totals: Any
    """int64[FAN]: of the children of one node."""
    child_bases: Any
    """float64[FAN]."""
    child_fines: Any
    """int64[FAN]."""
    path: Any
    """int64[levels]: the sums of the nodes that `find` passed."""
    x: Any
    """float32[BLOCK]: the numbers of one block."""
    whole: Any
    """int64[BLOCK]: their masses in the block's units."""
    top: Any
    """float64[1]: the row's largest number at the start."""
    uniforms: Any
    """float64[TOGETHER]: of the draws that come next."""
    ahead: Any
    """int64[2 TOGETHER]: where they will find their numbers, about: the part, and the target in it."""


def tree_bytes(blocks: int) -> int:
    """Count the bytes of a tree of so many blocks, at most."""
    rounded = -(-blocks // FAN) * FAN
    slots = rounded + rounded // 4 + 64 * 4
    return rounded * (4 * BLOCK + 8 * GROUPS + 8 * PARTS + 7 * 8) + slots * 12 + 12 * BLOCK + 640 + 24 * TOGETHER


@jit
def cut_tree(address, blocks):
    """Divide memory of `tree_bytes(blocks)` at an address, a multiple of 64, into a tree.

    Writes `firsts` and `counts` alone, so that a tree can be found again.
    """
    rounded = (np.int64(blocks) + FAN - 1) // FAN * FAN
    many = np.uint64(rounded)
    slots = (rounded + rounded // 4 + 64 * 4) // 64 * 64
    eight = np.uint64(8)
    at = np.uint64(address)
    x = carray(float32_at(at), BLOCK)
    whole = carray(int64_at(at + np.uint64(4 * BLOCK)), BLOCK)
    at += np.uint64(12 * BLOCK)
    firsts = carray(int64_at(at), _LEVELS)
    counts = carray(int64_at(at + np.uint64(128)), _LEVELS)
    path = carray(int64_at(at + np.uint64(256)), _LEVELS)
    top = carray(float64_at(at + np.uint64(384)), 1)
    child_totals = carray(int64_at(at + np.uint64(448)), FAN)
    child_bases = carray(float64_at(at + np.uint64(512)), FAN)
    child_fines = carray(int64_at(at + np.uint64(576)), FAN)
    at += np.uint64(640)
    uniforms = carray(float64_at(at), TOGETHER)
    ahead = carray(int64_at(at + np.uint64(8 * TOGETHER)), 2 * TOGETHER)
    at += np.uint64(24 * TOGETHER)
    levels = np.int64(0)
    first, count = np.int64(0), (np.int64(blocks) + FAN - 1) // FAN
    while True:
        firsts[levels] = first
        counts[levels] = count
        levels += 1
        if count == 1:
            break
        first += count * FAN
        count = (count + FAN - 1) // FAN
    totals = at
    grains = totals + eight * many
    maxima = grains + eight * many
    sums = maxima + eight * many
    bases = sums + eight * many
    is_open = bases + eight * many
    slots_at = is_open + eight * many
    shifts = slots_at + eight * np.uint64(slots)
    node_bases = shifts + np.uint64(slots)
    node_fines = node_bases + np.uint64(slots)
    parts = node_fines + np.uint64(slots)
    groups = parts + np.uint64(8 * PARTS) * many
    mass = groups + np.uint64(8 * GROUPS) * many
    return MassTree(
        np.int64(blocks),
        levels,
        carray(float32_at(mass), rounded * BLOCK),
        carray(int64_at(groups), rounded * GROUPS),
        carray(int64_at(parts), rounded * PARTS),
        carray(int64_at(totals), rounded),
        carray(float64_at(grains), rounded),
        carray(uint8_at(is_open), rounded),
        carray(float32_at(maxima), rounded),
        carray(float64_at(sums), rounded),
        carray(float64_at(bases), rounded),
        carray(int64_at(slots_at), slots),
        carray(uint8_at(shifts), slots),
        carray(float64_at(node_bases), slots // FAN),
        carray(int64_at(node_fines), slots // FAN),
        firsts,
        counts,
        child_totals,
        child_bases,
        child_fines,
        path,
        x,
        whole,
        top,
        uniforms,
        ahead,
    )
