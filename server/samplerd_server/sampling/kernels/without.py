"""Draws without replacement: successive draws, each from what is left.

Law (docs/sampling.md): draw d finds the first id with c_i > u_d c_V among the ids that are left, c their cumulative
sums. The sums are those of mass_sums.py: whole numbers, of which the target is the whole part of u x sum. At T = 0 the
largest numbers are drawn in order, ties by id: a tree of maxima of the same shape.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY
from samplerd_server.sampling.kernels.compile import carray, float64_at, jit
from samplerd_server.sampling.kernels.exp2 import LOG2_E, exp2
from samplerd_server.sampling.kernels.mass_search import ask_ahead, find, take
from samplerd_server.sampling.kernels.mass_sums import load_left, plant
from samplerd_server.sampling.kernels.mass_tree import FAN, GROUP, GROUPS, TOGETHER, cut_tree
from samplerd_server.sampling.kernels.measure import exponent_of, inverse
from samplerd_server.sampling.kernels.philox import uniforms

__all__ = ["draw_left", "draw_without", "sow"]

_TOO_FEW, _OUTSIDE = int(RowErrorReason.TOO_FEW_TO_DRAW), int(RowErrorReason.OUTSIDE_CANDIDATES)

_CACHED = 256
"""Blocks whose tree stays in a second-level cache: their memory need not be asked for ahead."""


@jit
def draw_without(view, temperature, draws, rest, noise, samples, scratch):
    """Draw without replacement from a row that was measured: see plain.draw_view."""
    blocks = (view.width + BLOCK - 1) // BLOCK
    tree = cut_tree(scratch.tree, blocks)
    for b in range(blocks):
        tree.maxima[b] = scratch.maxima[b]
        tree.sums[b] = scratch.sums[b]
    total, exponent, whole = sow(tree, view, temperature)
    status, drawn, _ = draw_left(tree, view, temperature, total, rest, noise, 0, draws, samples)
    return status, np.int64(drawn if status else 0), exponent, whole


@jit
def sow(tree, view, temperature):
    """Make the tree of a row whose blocks have been measured: `maxima` and `sums` are filled in.

    Returns its sum, and the largest exponent and the sum that plain.draw_view returns; zeros at T = 0.
    """
    if temperature == 0:
        _plant_maxima(tree)
        return np.int64(0), 0.0, 0.0
    total = plant(tree, view, inverse(view, temperature))
    root = tree.firsts[tree.levels - 1] // FAN
    whole = np.float64(total) * exp2(tree.node_bases[root] + np.float64(tree.node_fines[root]))
    return total, exponent_of(view, temperature, np.float32(tree.top[0])), whole


@jit
def draw_left(tree, view, temperature, total, rest, noise, begin, end, samples):
    """Make the draws [begin, end) of a row. Returns a status, how many draws are done, and the sum of the tree.

    total: the sum of the tree. rest: ln of the mass of what was not sent, -inf if there is none.
    """
    if temperature == 0:
        done = _take_largest(tree, view, begin, end, samples)
        return (_TOO_FEW if done < end else 0), done, total
    c = inverse(view, temperature)
    for first in range(begin, end, TOGETHER):
        count = min(TOGETHER, end - first)
        uniforms(noise.seed, noise.first + np.uint64(first), noise.row, noise.purpose, tree.uniforms[:count])
        if tree.blocks > _CACHED:
            ask_ahead(tree, total, count)
        for d in range(count):
            if total == 0:
                return (_TOO_FEW if rest == -np.inf else _OUTSIDE), first + d, total
            target = tree.uniforms[d] * np.float64(total)
            if rest != -np.inf:
                target = tree.uniforms[d] * (np.float64(total) + _outside(tree, view, c, rest))
                if not np.float64(total) > target:
                    return _OUTSIDE, first + d, total
            at, mass = find(tree, view, c, min(np.int64(target), total - 1))
            total = take(tree, view, c, at, mass)
            samples[first + d] = at
    return 0, end, total


@jit
def _outside(tree, view, c, rest):
    """Compute the mass of what was not sent in the root's units."""
    root = tree.firsts[tree.levels - 1] // FAN
    origin = 0.0 if view.is_weights else tree.top[0] * c
    unit = tree.node_bases[root] + np.float64(tree.node_fines[root])
    return exp2(min(rest * LOG2_E - origin - unit, 1000.0))


@jit
def _maxima(tree):
    """Name the memory of sums as maxima: those of nodes' children, and those of groups."""
    return (
        carray(float64_at(np.uint64(tree.slots.ctypes.data)), len(tree.slots)),
        carray(float64_at(np.uint64(tree.groups.ctypes.data)), len(tree.groups)),
    )


@jit
def _plant_maxima(tree):
    """Build the tree of maxima of a row whose blocks have been measured: `maxima` are filled in."""
    slots, _ = _maxima(tree)
    for level in range(tree.levels):
        first = tree.firsts[level]
        for slot in range(tree.counts[level] * FAN):
            slots[first + slot] = -np.inf
        if level == 0:
            for b in range(tree.blocks):
                tree.is_open[b] = 0
                slots[b] = np.float64(tree.maxima[b])
        else:
            for node in range(tree.counts[level - 1]):
                slots[first + node] = _largest(slots, tree.firsts[level - 1] + node * FAN, FAN)


@jit
def _largest(values, first, count):
    """Find the largest of some values."""
    largest = values[first]
    for i in range(first + 1, first + count):
        largest = max(largest, values[i])
    return largest


@jit
def _first_of(values, first, value):
    """Find the place of a value that is there."""
    while values[first] != value:
        first += 1
    return first


@jit
def _take_largest(tree, view, begin, end, samples):
    """Draw the largest numbers, ties by id, as draws [begin, end). Returns how many draws are done."""
    slots, groups = _maxima(tree)
    nothing = 0.0 if view.is_weights else -np.inf
    mass, top = tree.mass, tree.levels - 1
    for d in range(begin, end):
        largest = _largest(slots, tree.firsts[top], FAN)
        if not largest > nothing:
            return d
        at = np.int64(0)
        for level in range(top, -1, -1):
            at = _first_of(slots, tree.firsts[level] + at * FAN, largest) - tree.firsts[level]
        if not tree.is_open[at]:
            load_left(tree, view, at)
            tree.is_open[at] = 1
            for i in range(BLOCK):
                mass[at * BLOCK + i] = tree.x[i]
            for group in range(at * GROUPS, (at + 1) * GROUPS):
                groups[group] = np.float64(_largest(mass, group * GROUP, GROUP))
        group = _first_of(groups, at * GROUPS, largest)
        place = _first_of(mass, group * GROUP, np.float32(largest))
        samples[d] = place
        mass[place] = TINY
        groups[group] = np.float64(_largest(mass, group * GROUP, GROUP))
        slots[at] = _largest(groups, at * GROUPS, GROUPS)
        for level in range(top):
            at //= FAN
            slots[tree.firsts[level + 1] + at] = _largest(slots, tree.firsts[level] + at * FAN, FAN)
    return end
