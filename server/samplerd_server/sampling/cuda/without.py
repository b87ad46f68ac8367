"""Draws without replacement: successive draws, each from what is left. One program makes all of a row.

Law: `kernels/without.py`, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.sampling.cuda.arithmetic import uniform
from samplerd_server.sampling.cuda.likeliest import next_largest
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field
from samplerd_server.sampling.cuda.survey import survey
from samplerd_server.sampling.cuda.tree import find, plant, take
from samplerd_server.sampling.kernels.philox import DRAW

__all__ = ["draw_left"]

_LANES, _DRAW = tl.constexpr(128), tl.constexpr(DRAW)
_PITCH, _TOO_FEW = tl.constexpr(PITCH), tl.constexpr(int(RowErrorReason.TOO_FEW_TO_DRAW))
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK, _SEED = tl.constexpr(Field.FIRST_BLOCK), tl.constexpr(Field.SEED)
_SAMPLE_AT, _ROW, _TREE_AT = tl.constexpr(Field.SAMPLE_AT), tl.constexpr(Field.ROW), tl.constexpr(Field.TREE_AT)
_DRAW_OFFSET, _ROW_INDEX = tl.constexpr(Field.DRAW_OFFSET), tl.constexpr(Field.ROW_INDEX)


@triton.jit
def _take_largest(record, left, maxima, blocks, count, out):
    """Draw the largest numbers in order, ties by position. Returns how many there were; left: float32[blocks]."""
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        tl.store(left + b, tl.load(maxima + b, mask=b < blocks, other=0.0), mask=b < blocks)
    tl.debug_barrier()
    nothing = tl.where(tl.load(record + _IS_WEIGHTS) != 0, 0.0, float("-inf"))
    value, at = tl.full((), float("inf"), tl.float32), blocks * 0 - 1
    done = count * 0
    is_left = count > 0
    while is_left:
        value, at = next_largest(record, left, blocks, value, at)
        is_left = value > nothing
        tl.store(out + done, at, mask=is_left)
        done += is_left.to(tl.int64)
        is_left = is_left & (done < count)
    return done


@triton.jit
def _draw(record, tree, maxima, sums, blocks, top, count, out):
    """Make draws 0 to count - 1 of a row without fault. Returns how many could be made."""
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    if c < 0:
        done = _take_largest(record, tree.to(tl.pointer_type(tl.float32)), maxima, blocks, count, out)
    else:
        total = plant(record, tree, maxima, sums, blocks, top)
        done = count * 0
        while (done < count) & (total > 0):
            # Loaded again for each draw: what noise makes of them would be kept in local memory.
            row_index = tl.load(record + _ROW_INDEX).to(tl.uint32)
            seed = tl.load(record + _SEED).to(tl.uint64, bitcast=True)
            index = (tl.load(record + _DRAW_OFFSET) + done).to(tl.uint64, bitcast=True)
            u = uniform(seed, index, row_index, row_index * 0 + _DRAW)
            target = tl.minimum((u * total.to(tl.float64)).to(tl.int64), total - 1)
            at, mass = find(record, tree, blocks, target)
            total = take(record, tree, blocks, at, mass)
            tl.store(out + done, at.to(tl.int32))
            done += 1
    return done


@triton.jit
def _fail(out, count):
    for d in range(count):
        tl.store(out + d, -1)


@triton.jit
def draw_left(records, tasks, maxima, bits, sums, trees, samples, status, detail):
    """Draw from rows that were measured, without replacement. As `pick`, but a program has all draws of a row.

    trees: int64, see `tree.py`. A row with fewer numbers than draws fails, with how many they are as its detail.
    """
    task = tasks + 4 * tl.program_id(0)
    record, count = records + tl.load(task) * _PITCH, tl.load(task + 2)
    width, dtype = tl.load(record + _WIDTH).to(tl.int32), tl.load(record + _DTYPE).to(tl.int32)
    first_block, is_weights = tl.load(record + _FIRST_BLOCK), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    maxima, bits, sums = maxima + first_block, bits + first_block, sums + first_block
    out, tree = samples + tl.load(record + _SAMPLE_AT), trees + tl.load(record + _TREE_AT)
    reason, where, top = survey(tl.load(record + _ADDRESS), dtype, width, maxima, bits, blocks, is_weights)
    in_batch = tl.load(record + _ROW)
    tl.store(status + in_batch, reason)
    tl.store(detail + in_batch, where.to(tl.int64))
    if reason == 0:
        done = _draw(record, tree, maxima, sums, blocks, top, count, out)
        if done < count:
            in_batch = tl.load(record + _ROW)
            tl.debug_barrier()
            tl.store(status + in_batch, _TOO_FEW)
            tl.store(detail + in_batch, done)
            _fail(out, count)
    else:
        _fail(out, count)
