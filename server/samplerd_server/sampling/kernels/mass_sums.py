"""The sums of a tree of masses, in whole numbers: made of a row, and made anew when they have become small.

Law. Every sum is an int64 in units of its own: a node's unit is a power of two, and a block's is 2^-51 of its largest
mass, rounded to a power of two. A mass is rounded to a whole number of its block's units; the sums inside a block are
exact; a sum enters the node above in that node's units, the fraction dropped. So taking a number out is exact: what is
subtracted is what was added. A sum that has fallen below 2^44 of its units is made anew in smaller units, from what
is left: a block's from its numbers, a node's from its eight sums. A sum thus keeps 44 bits at least, however far masses
lie apart, and a category of any positive probability is found once the likelier ones are gone. Nothing but the row and
what was taken before decides when that happens. One draw costs O(log V), sums made anew included.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK, TINY, block_maximum, load_block, weigh_block, weigh_powers
from samplerd_server.sampling.kernels.compile import as_bits, as_bits64, inlined, jit, rint64
from samplerd_server.sampling.kernels.exp2 import LN_2, exp2, log2
from samplerd_server.sampling.kernels.mass_tree import FAN, GROUP, PARTS

__all__ = ["LOW", "TAKEN", "load_left", "normalise", "plant", "shift_of", "weigh_left", "whole_number"]

LOW = np.int64(1 << 44)
"""A sum below this is made anew, in smaller units."""
TAKEN = np.float32(-0.0)
"""The mass of a number that was taken out: weighing gives +0, at least, to all others."""
_BITS = 59
"""Bits of the largest child in its node's units: eight of them stay below 2^62."""
_GRAIN = 2.0**51
"""Units in a mass of 1. A block's may be sqrt(2) times as many: below 2^52, as `whole_number` needs it."""
_FINE = np.int64(-51)
_WHOLE = 2.0**52
_WHOLE_BITS = np.int64(0x4330000000000000)
"""2^52 and its bits: from there on to 2^53 binary64 numbers are the whole numbers, and their bits count them."""
_FARTHEST = 1e250
"""Largest log2(e) / T that exponents are multiplied by, so that they stay finite: binary32 numbers that differ do so by
1e-45 at least, so that the larger is already certain."""
_FAR = 1e6
_FAN, _GROUP, _PARTS = np.uint64(FAN), np.uint64(GROUP), np.uint64(PARTS)


@inlined
def whole_number(x):
    """Round 0 <= x < 2^52 to a whole number, ties to even, in arithmetic that every processor's vectors have."""
    return as_bits64(x + _WHOLE) - _WHOLE_BITS


@jit
def _exponent(x):
    """Find the e with 2^(e - 1) <= x < 2^e of a normal float64 x > 0."""
    return (as_bits64(x) >> np.int64(52)) - np.int64(1022)


@jit
def _gap(a, b):
    """Compute a - b of two bases as a whole number; one that is far away is as good as infinite."""
    return np.int64(max(-_FAR, min(_FAR, a - b)))


@jit
def _set_unit(tree, view, c, b):
    """Choose the unit of a block by its maximum. Args: c, see measure.inverse."""
    maximum = np.float64(tree.maxima[b])
    exponent = 0.0
    if c == 0:
        tree.bases[b] = np.float64(_exponent(maximum))
        tree.grains[b] = _GRAIN
        return
    if view.is_weights:
        exponent = log2(maximum / tree.top[0]) * (min(c, _FARTHEST) * LN_2)
    else:
        exponent = (maximum - tree.top[0]) * min(c, _FARTHEST)
    base = rint64(exponent)
    tree.bases[b] = base
    tree.grains[b] = exp2(exponent - base) * _GRAIN


@jit
def load_left(tree, view, b):
    """Read what is left of a block into x. Returns the number that stands for nothing."""
    fill = np.float32(0) if view.is_weights else TINY
    low = np.int64(b) * BLOCK
    x = tree.x
    load_block(view.address, view.dtype, low, min(BLOCK, view.width - low), fill, x)
    if tree.is_open[b]:
        mass = tree.mass[low : low + BLOCK]
        for i in range(BLOCK):
            x[i] = fill if as_bits(mass[i]) < 0 else x[i]
    return fill


@jit
def weigh_left(tree, view, c, b):
    """Weigh what is left of a block and sum it, in new units if it has been weighed before."""
    fill = load_left(tree, view, b)
    low = np.int64(b) * BLOCK
    x, mass = tree.x, tree.mass[low : low + BLOCK]
    if tree.is_open[b]:
        tree.maxima[b], _ = block_maximum(x)
        if tree.maxima[b] == fill:
            tree.totals[b] = 0
            return
        _set_unit(tree, view, c, b)
        tree.shifts[b] = shift_of(tree, 0, b // FAN, tree.bases[b], _FINE)
    if c == 0:
        scale = exp2(-tree.bases[b])
        for i in range(BLOCK):
            mass[i] = np.float32(np.float64(x[i]) * scale)
    elif view.is_weights:
        weigh_powers(x, tree.maxima[b], c * LN_2, mass)
    else:
        weigh_block(x, tree.maxima[b], c, mass)
    for i in range(BLOCK):
        mass[i] = TAKEN if x[i] == fill else mass[i]
    tree.is_open[b] = 1
    _sum_block(tree, b)


@jit
def _sum_block(tree, b):
    """Sum the masses of a block: its groups, parts and total."""
    low = np.int64(b) * BLOCK
    grain, mass, whole = tree.grains[b], tree.mass[low : low + BLOCK], tree.whole
    for i in range(BLOCK):
        whole[i] = whole_number(np.float64(mass[i]) * grain)
    first_part, first_group, total = np.uint64(b) * _PARTS, np.uint64(b) * _PARTS * _FAN, np.int64(0)
    for part in range(PARTS):
        of_part = np.int64(0)
        for child in range(FAN):
            group = np.uint64(part * FAN + child)
            of_group = np.int64(0)
            for i in range(GROUP):
                of_group += whole[group * _GROUP + np.uint64(i)]
            tree.groups[first_group + group] = of_group
            of_part += of_group
        tree.parts[first_part + np.uint64(part)] = of_part
        total += of_part
    tree.totals[b] = total


@jit
def shift_of(tree, level, node, base, fine):
    """Compute by how many binary digits a node's unit is larger than a child's unit of 2^(base + fine)."""
    at = tree.firsts[level] // FAN + node
    return np.uint8(max(0, min(63, _gap(tree.node_bases[at], base) + tree.node_fines[at] - fine)))


@jit
def _gather_children(tree, level, node):
    """Write down what is left of each child of a node, and the base and fine of its unit. Returns the first slot."""
    first = tree.firsts[level] + node * FAN
    totals, bases, fines = tree.child_totals, tree.child_bases, tree.child_fines
    if level == 0:
        for j in range(FAN):
            totals[j], bases[j], fines[j] = tree.totals[first + j], tree.bases[first + j], _FINE
        return first
    below = tree.firsts[level - 1] + node * (FAN * FAN)
    for j in range(FAN):
        totals[j], bases[j], fines[j] = np.int64(0), 0.0, np.int64(0)
        if node * FAN + j < tree.counts[level - 1]:
            for k in range(FAN):
                totals[j] += tree.slots[below + j * FAN + k]
            bases[j] = tree.node_bases[below // FAN + j]
            fines[j] = tree.node_fines[below // FAN + j]
    return first


@jit
def normalise(tree, level, node):
    """Choose a node's unit by its largest child, and sum the children in it. Returns the sum, 0 if nothing is left.

    The unit is no smaller than that of a child, so that sums are only ever shifted one way.
    """
    first = _gather_children(tree, level, node)
    totals, bases, fines = tree.child_totals, tree.child_bases, tree.child_fines
    base, size, is_any = 0.0, np.int64(0), False
    for j in range(FAN):
        if totals[j] > 0:
            own = fines[j] + _exponent(np.float64(totals[j]))
            if not is_any or (bases[j] - base) + np.float64(own - size) > 0:
                base, size, is_any = bases[j], own, True
    fine = size - _BITS
    for j in range(FAN):
        if totals[j] > 0:
            fine = max(fine, _gap(bases[j], base) + fines[j])
    tree.node_bases[first // FAN] = base
    tree.node_fines[first // FAN] = fine
    whole = np.int64(0)
    for j in range(FAN):
        shift = max(np.int64(0), min(np.int64(63), _gap(base, bases[j]) + fine - fines[j]))
        tree.shifts[first + j] = shift
        tree.slots[first + j] = totals[j] >> shift
        whole += tree.slots[first + j]
    return whole


@jit
def _measure_units(tree, view, c, nothing):
    """Choose the units of all blocks by their maxima, and bring their sums to them."""
    if c == 0 or view.is_weights:
        for b in range(tree.blocks):
            if tree.maxima[b] > nothing:
                _set_unit(tree, view, c, b)
                scale = exp2(-tree.bases[b]) if c == 0 else 1.0
                tree.totals[b] = _whole_sum(tree.sums[b] * scale * tree.grains[b])
            else:
                tree.totals[b] = 0
                tree.bases[b] = 0.0
        return
    top, factor = tree.top[0], min(c, _FARTHEST)
    for b in range(tree.blocks):  # the arithmetic of _set_unit, laid out so that it fills vectors
        maximum = np.float64(tree.maxima[b]) if tree.maxima[b] > nothing else top
        exponent = (maximum - top) * factor
        base = rint64(exponent)
        tree.bases[b] = base
        tree.grains[b] = exp2(exponent - base) * _GRAIN
        tree.totals[b] = _whole_sum(tree.sums[b] * tree.grains[b])


@jit
def _whole_sum(x):
    """Drop the fraction, and bits below a sixteenth of its precision, of 0 <= x < 2^61."""
    return whole_number(x * 2.0**-9) << np.int64(9)


@jit
def plant(tree, view, c):
    """Build the tree of a row whose blocks have been measured: `maxima` and `sums` are filled in. Returns its sum.

    Args: c > 0, or 0 for weights at T = 1, see measure.inverse. The sum of the row, relative to its largest mass, or of
    the weights at T = 1, is the sum returned x 2^(root's base + fine).
    """
    nothing = np.float32(0) if view.is_weights else TINY
    top = nothing
    for b in range(tree.blocks):
        top = max(top, tree.maxima[b])
    tree.top[0] = np.float64(top)
    for b in range(len(tree.is_open)):
        tree.is_open[b] = 0
    for b in range(tree.blocks, len(tree.totals)):
        tree.totals[b] = 0
        tree.bases[b] = 0.0
    _measure_units(tree, view, c, nothing)
    total = np.int64(0)
    for level in range(tree.levels):
        for node in range(tree.counts[level]):
            total = normalise(tree, level, node)
    return total
