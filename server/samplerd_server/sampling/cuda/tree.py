"""A row's tree of whole sums, from which draws without replacement take numbers out.

Law: `kernels/mass_sums.py` and `kernels/mass_search.py`, to the bit. One program has the tree of a row. Masses are not
kept: a block is weighed anew whenever a draw falls into it, in the units that it was given last, and what was taken out
of the row is marked in bits. So a tree takes 130 bytes of memory for 512 numbers.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917, SIM108 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import exp2
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, Field, load_numbers, weigh
from samplerd_server.sampling.cuda.tree_memory import (
    BASES,
    COUNTS,
    FIRSTS,
    GRAINS,
    LEVELS,
    MAXIMA,
    OPEN,
    PATH,
    TOP,
    TOTALS,
    is_marked,
    load_double,
    mark,
    part_of,
    rounded,
    slots_of,
    store_double,
    unmark_all,
)
from samplerd_server.sampling.cuda.tree_units import digits, exponent_of_two, gap, units, whole_number
from samplerd_server.sampling.kernels.mass_tree import FAN

__all__ = ["find", "plant", "take"]

_FAN, _LANES = tl.constexpr(FAN), tl.constexpr(128)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_LOW, _BITS, _FINE = tl.constexpr(1 << 44), tl.constexpr(59), tl.constexpr(-51)


@triton.jit
def _shift_of(tree, blocks, level, node, base, fine):
    """Compute by how many binary digits a node's unit is larger than a child's unit of 2^(base + fine)."""
    _, _, bases, fines = slots_of(tree, blocks)
    at = tl.load(tree + FIRSTS + level) // _FAN + node
    return digits(gap(tl.load(bases + at).to(tl.float64, bitcast=True), base) + tl.load(fines + at) - fine)


@triton.jit
def _weigh(record, tree, blocks, b):
    """Weigh what is left of a block, in units of its own. Returns int64[512], and the largest number that is left.

    A block that has been weighed before and is weighed anew gets new units before: see `_open`.
    """
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    at = b.to(tl.int32) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    x = load_numbers(address, dtype, at, width, fill)
    x = tl.where(is_marked(tree, blocks, at), fill, x)
    maximum = load_double(part_of(tree, blocks, MAXIMA) + b, b >= 0).to(tl.float32)
    base, grain = (
        load_double(part_of(tree, blocks, BASES) + b, b >= 0),
        load_double(part_of(tree, blocks, GRAINS) + b, b >= 0),
    )
    if c == 0:
        mass = (x.to(tl.float64) * exp2(-base)).to(tl.float32)
    else:
        mass = weigh(x, maximum, c, is_weights)
    return tl.where(x == fill, 0, whole_number(tl.where(x == fill, 0.0, mass.to(tl.float64)) * grain))


@triton.jit
def _largest_left(record, tree, blocks, b):
    """Find the largest number that is left of a block."""
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    at = b.to(tl.int32) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    x = tl.where(is_marked(tree, blocks, at), fill, load_numbers(address, dtype, at, width, fill))
    return tl.max(x, axis=0), fill


@triton.jit
def _open(record, tree, blocks, b):
    """Weigh and sum what is left of a block, in new units if it has been weighed before."""
    total_at, open_at = part_of(tree, blocks, TOTALS) + b, part_of(tree, blocks, OPEN) + b
    is_any = b >= 0
    if tl.load(open_at) != 0:
        largest, fill = _largest_left(record, tree, blocks, b)
        is_any = largest != fill
        if is_any:
            c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
            top = load_double(tree + TOP, b >= 0)
            base, grain = units(largest.to(tl.float64), top, c, tl.load(record + _IS_WEIGHTS).to(tl.int32))
            store_double(part_of(tree, blocks, MAXIMA) + b, largest.to(tl.float64), b >= 0)
            store_double(part_of(tree, blocks, BASES) + b, base, b >= 0)
            store_double(part_of(tree, blocks, GRAINS) + b, grain, b >= 0)
            _, shifts, _, _ = slots_of(tree, blocks)
            tl.store(shifts + b, _shift_of(tree, blocks, b * 0, b // _FAN, base, _FINE))
            tl.debug_barrier()
    total = b * 0
    if is_any:
        total = tl.sum(_weigh(record, tree, blocks, b), axis=0)
        tl.store(open_at, b * 0 + 1)
    tl.store(total_at, total)
    tl.debug_barrier()


@triton.jit
def _only(values, lane, j):
    return tl.sum(tl.where(lane == j, values, 0), axis=0)


@triton.jit
def _normalise(tree, blocks, level, node):
    """Choose a node's unit by its largest child, and sum the children in it. Returns the sum."""
    slots, shifts, node_bases, node_fines = slots_of(tree, blocks)
    lane = tl.arange(0, _FAN).to(tl.int64)
    own = tl.load(tree + FIRSTS + level) + node * _FAN
    child = node * _FAN + lane
    if level == 0:
        totals = tl.load(part_of(tree, blocks, TOTALS) + child)
        bases = tl.load(part_of(tree, blocks, BASES) + child).to(tl.float64, bitcast=True)
        fines = lane * 0 + _FINE
    else:
        below, many = tl.load(tree + FIRSTS + level - 1), tl.load(tree + COUNTS + level - 1)
        inside = child < many
        of_children = slots + below + child[:, None] * _FAN + lane[None, :]
        totals = tl.sum(tl.load(of_children, mask=inside[:, None], other=0), axis=1)
        bases = load_double(node_bases + below // _FAN + child, inside)
        fines = tl.load(node_fines + below // _FAN + child, mask=inside, other=0)
    sizes = fines + exponent_of_two(totals.to(tl.float64))
    base, size, is_any = tl.full((), 0.0, tl.float64), node * 0, node < 0
    for j in range(_FAN):
        is_own = _only(totals, lane, j) > 0
        of_child, its_base = _only(sizes, lane, j), _only(bases, lane, j)
        is_larger = is_own & ((is_any == 0) | ((its_base - base) + (of_child - size).to(tl.float64) > 0))
        base, size = tl.where(is_larger, its_base, base), tl.where(is_larger, of_child, size)
        is_any = is_any | is_own
    fine = size - _BITS
    least = tl.where(totals > 0, gap(bases, base) + fines, fine)
    fine = tl.maximum(fine, tl.max(least, axis=0))
    shift = digits(gap(base, bases) + fine - fines)
    sums = totals >> shift
    tl.debug_barrier()
    tl.store(node_bases + own // _FAN, base.to(tl.int64, bitcast=True))
    tl.store(node_fines + own // _FAN, fine)
    tl.store(shifts + own + lane, shift)
    tl.store(slots + own + lane, sums)
    tl.debug_barrier()
    return tl.sum(sums, axis=0)


@triton.jit
def _lay_out(tree, blocks):
    """Write where the levels begin. Returns how many there are."""
    first, count = rounded(blocks) * 0, rounded(blocks) // _FAN
    level = first
    is_last = count < 0
    while not is_last:
        tl.store(tree + FIRSTS + level, first)
        tl.store(tree + COUNTS + level, count)
        first += count * _FAN
        level += 1
        is_last = count == 1
        count = (count + _FAN - 1) // _FAN
    tl.store(tree + LEVELS, level)
    tl.debug_barrier()
    return level


@triton.jit
def plant(record, tree, maxima, sums, blocks, top):
    """Make the tree of a row that was measured: maxima, sums; top: its largest number. Returns the sum of all."""
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    is_weights = tl.load(record + _IS_WEIGHTS).to(tl.int32)
    nothing = tl.where(is_weights != 0, 0.0, float("-inf"))
    levels = _lay_out(tree, blocks)
    unmark_all(tree, blocks)
    wide = top.to(tl.float64)
    store_double(tree + TOP, wide, blocks >= 0)
    padded = rounded(blocks)
    for low in range(0, padded, _LANES):
        b = low + tl.arange(0, _LANES)
        maximum = tl.load(maxima + b, mask=b < blocks, other=float("-inf"))
        is_own = (b < blocks) & (maximum > nothing)
        used = tl.where(is_own, maximum.to(tl.float64), wide)
        base, grain = units(used, wide, c, is_weights)
        own = tl.load(sums + b, mask=is_own, other=0.0)
        if c == 0:
            own = own * exp2(-base)
        total = whole_number(own * grain * 1.953125e-3) << 9
        tl.store(part_of(tree, blocks, TOTALS) + b, tl.where(is_own, total, 0), mask=b < padded)
        store_double(part_of(tree, blocks, BASES) + b, tl.where(is_own, base, 0.0), b < padded)
        store_double(part_of(tree, blocks, GRAINS) + b, grain, b < padded)
        store_double(part_of(tree, blocks, MAXIMA) + b, maximum.to(tl.float64), b < padded)
        tl.store(part_of(tree, blocks, OPEN) + b, (b * 0).to(tl.int64), mask=b < padded)
    tl.debug_barrier()
    sum_of_all = padded * 0
    level = levels * 0
    while level < levels:
        node, nodes = level * 0, tl.load(tree + COUNTS + level)
        while node < nodes:
            sum_of_all = _normalise(tree, blocks, level, node)
            node += 1
        level += 1
    return sum_of_all


@triton.jit
def find(record, tree, blocks, target):
    """Find the first number at which the cumulative sum exceeds a target, int64. Returns its position and its mass."""
    slots, shifts, _, _ = slots_of(tree, blocks)
    lane = tl.arange(0, _FAN).to(tl.int64)
    at = target * 0
    level = tl.load(tree + LEVELS) - 1
    while level >= 0:
        first = tl.load(tree + FIRSTS + level) + at * _FAN
        own = tl.load(slots + first + lane)
        is_passed = tl.cumsum(own, axis=0) <= target
        inside = tl.sum(is_passed.to(tl.int64), axis=0)
        before = tl.sum(tl.where(is_passed, own, 0), axis=0)
        tl.store(tree + PATH + level, tl.sum(own, axis=0))
        at = at * _FAN + inside
        target = (target - before) << tl.load(shifts + first + inside)
        level -= 1
    tl.debug_barrier()
    if tl.load(part_of(tree, blocks, OPEN) + at) == 0:
        _open(record, tree, blocks, at)
    target = tl.minimum(target, tl.load(part_of(tree, blocks, TOTALS) + at) - 1)
    whole = _weigh(record, tree, blocks, at)
    inside = tl.sum((tl.cumsum(whole, axis=0) <= target).to(tl.int64), axis=0)
    mass = tl.sum(tl.where(tl.arange(0, BLOCK_SIZE) == inside, whole, 0), axis=0)
    return at * BLOCK_SIZE + inside, mass


@triton.jit
def take(record, tree, blocks, at, mass):
    """Take out the number that `find` has just found. Returns the sum of the tree; 0 = nothing is left."""
    slots, shifts, node_bases, node_fines = slots_of(tree, blocks)
    mark(tree, blocks, at)
    b = at // BLOCK_SIZE
    total_at = part_of(tree, blocks, TOTALS) + b
    total = tl.load(total_at) - mass
    tl.debug_barrier()
    tl.store(total_at, total)
    tl.debug_barrier()
    if total < _LOW:
        _open(record, tree, blocks, b)
        total = tl.load(total_at)
    child, level, levels = b, b * 0, tl.load(tree + LEVELS)
    while level < levels:
        slot = tl.load(tree + FIRSTS + level) + child
        own = total >> tl.load(shifts + slot)
        total = tl.load(tree + PATH + level) - tl.load(slots + slot) + own
        tl.debug_barrier()
        tl.store(slots + slot, own)
        tl.debug_barrier()
        child = child // _FAN
        if total < _LOW:
            total = _normalise(tree, blocks, level, child)
            if level + 1 < levels:
                node = tl.load(tree + FIRSTS + level) // _FAN + child
                base, fine = tl.load(node_bases + node).to(tl.float64, bitcast=True), tl.load(node_fines + node)
                shift = _shift_of(tree, blocks, level + 1, child // _FAN, base, fine)
                tl.store(shifts + tl.load(tree + FIRSTS + level + 1) + child, shift)
                tl.debug_barrier()
        level += 1
    return total
