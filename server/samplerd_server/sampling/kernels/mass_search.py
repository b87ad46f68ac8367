"""Searching a tree of masses for what a uniform draws, and taking it out.

Law: a target t, a whole number in [0, sum), finds the first number with a cumulative sum above t. The search goes down
from the root, in every node to the first child at which the cumulative sum exceeds what is left of the target.
Source: Wong and Easton, An efficient method for weighted sampling without replacement (SIAM J. Comput., 1980).
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import inlined, jit, prefetch
from samplerd_server.sampling.kernels.mass_sums import LOW, TAKEN, normalise, shift_of, weigh_left, whole_number
from samplerd_server.sampling.kernels.mass_tree import FAN, GROUP, PARTS

__all__ = ["ask_ahead", "find", "take"]

_ONE, _FAN, _GROUP, _PARTS, _BLOCK = np.uint64(1), np.uint64(FAN), np.uint64(GROUP), np.uint64(PARTS), np.uint64(BLOCK)


@inlined
def _passed(values, first, count, target):
    """Scan the sums from `first` on: how many lie below a target, all of them together, and the sum of those below.

    Indices are unsigned here: numba counts signed ones from the end where they are negative, which takes time.
    """
    total, before, inside = np.int64(0), np.int64(0), np.uint64(0)
    for j in range(count):
        total += values[first + np.uint64(j)]
        is_passed = total <= target
        inside += np.uint64(is_passed)
        before = total if is_passed else before
    return inside, before, total


@jit
def ask_ahead(tree, total, count):
    """Ask for the memory that the next draws, whose uniforms are there, will most likely read.

    As they stand now: what the draws before each of them take out moves its target a little. Changes nothing.
    """
    groups, mass = np.uint64(tree.groups.ctypes.data), np.uint64(tree.mass.ctypes.data)
    for d in range(count):
        target, at = np.int64(tree.uniforms[d] * np.float64(total)), np.uint64(0)
        for level in range(tree.levels - 1, -1, -1):
            first = np.uint64(tree.firsts[level]) + at * _FAN
            inside, before, _ = _passed(tree.slots, first, FAN - 1, target)
            at = at * _FAN + inside
            target = (target - before) << np.int64(tree.shifts[first + inside])
        part, before, _ = _passed(tree.parts, at * _PARTS, PARTS - 1, target)
        part += at * _PARTS
        tree.ahead[2 * d] = np.int64(part) if tree.is_open[at] else -1
        tree.ahead[2 * d + 1] = target - before
        prefetch(groups + np.uint64(8) * _FAN * part)
    for d in range(count):
        if tree.ahead[2 * d] < 0:
            continue
        first, target = np.uint64(tree.ahead[2 * d]) * _FAN, tree.ahead[2 * d + 1]
        inside, before, _ = _passed(tree.groups, first, FAN - 1, target)
        group = first + inside
        near = group + _ONE if 2 * (target - before) > tree.groups[group] else group - _ONE
        prefetch(mass + np.uint64(4) * _GROUP * group)
        prefetch(mass + np.uint64(4) * _GROUP * near)


@inlined
def find(tree, view, c, target):
    """Find the first number at which the cumulative sum exceeds `target`: int64 in [0, sum of the tree).

    Returns its position, uint64, and its mass in the block's units. `path` is left for `take`.
    """
    at = np.uint64(0)
    for level in range(tree.levels - 1, -1, -1):
        first = np.uint64(tree.firsts[level]) + at * _FAN
        inside, before, total = _passed(tree.slots, first, FAN, target)
        tree.path[level] = total
        at = at * _FAN + inside
        target = (target - before) << np.int64(tree.shifts[first + inside])
    if not tree.is_open[at]:
        weigh_left(tree, view, c, np.int64(at))
    target = min(target, tree.totals[at] - 1)
    grain = tree.grains[at]
    inside, before, _ = _passed(tree.parts, at * _PARTS, PARTS, target)
    target -= before
    at = at * _PARTS + inside
    inside, before, _ = _passed(tree.groups, at * _FAN, FAN, target)
    target -= before
    at = (at * _FAN + inside) * _GROUP
    total, first = np.int64(0), at
    for j in range(GROUP):
        total += whole_number(np.float64(tree.mass[first + np.uint64(j)]) * grain)
        at += np.uint64(total <= target)
    return at, whole_number(np.float64(tree.mass[at]) * grain)


@inlined
def take(tree, view, c, at, mass):
    """Take out the number that `find` has just found. Returns the sum of the tree; 0 = nothing is left."""
    b = at // _BLOCK
    tree.mass[at] = TAKEN
    tree.groups[at // _GROUP] -= mass
    tree.parts[at // (_GROUP * _FAN)] -= mass
    tree.totals[b] -= mass
    if tree.totals[b] < LOW:
        weigh_left(tree, view, c, np.int64(b))
    child, total = b, tree.totals[b]
    for level in range(tree.levels):
        slot = np.uint64(tree.firsts[level]) + child
        own = total >> np.int64(tree.shifts[slot])
        total = tree.path[level] - tree.slots[slot] + own
        tree.slots[slot] = own
        child //= _FAN
        if total < LOW:
            total = normalise(tree, level, np.int64(child))
            if level + 1 < tree.levels:
                node = tree.firsts[level] // FAN + np.int64(child)
                tree.shifts[np.uint64(tree.firsts[level + 1]) + child] = shift_of(
                    tree, level + 1, np.int64(child // _FAN), tree.node_bases[node], tree.node_fines[node]
                )
    return total
