"""The second launch: cumulative sums over a row's blocks, then for each draw a block and a number in it.

Law: `kernels/plain.py`, `kernels/search.py`. A program takes some of the draws of one row, with one warp, and makes the
row's cumulative sums for itself, so that programs do not wait for each other. Chains of additions run in the order of
the CPU's kernels; their terms are laid down in memory first, since lanes of a warp cannot be read one by one.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no types and no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import exp2, log2, uniform
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, load_numbers, weigh
from samplerd_server.sampling.cuda.survey import survey
from samplerd_server.sampling.kernels.exp2 import LN_2
from samplerd_server.sampling.kernels.philox import DRAW

__all__ = ["SPARE", "accumulate", "draw_at", "lay_scales", "pick"]

SPARE = 32
"""float64 numbers of scratch of each program: the sums of a block's groups."""

_SPARE, _PITCH, _LANES = tl.constexpr(SPARE), tl.constexpr(PITCH), tl.constexpr(128)
_GROUPS, _GROUP = tl.constexpr(32), tl.constexpr(16)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK, _SEED = tl.constexpr(Field.FIRST_BLOCK), tl.constexpr(Field.SEED)
_DRAW_OFFSET, _ROW_INDEX = tl.constexpr(Field.DRAW_OFFSET), tl.constexpr(Field.ROW_INDEX)
_SAMPLE_AT, _ROW = tl.constexpr(Field.SAMPLE_AT), tl.constexpr(Field.ROW)
_LN_2, _DRAW = tl.constexpr(LN_2), tl.constexpr(DRAW)


@triton.jit
def _largest(record, maxima, blocks, top):
    """Find the position of the first of the largest numbers."""
    best = blocks
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        maximum = tl.load(maxima + b, mask=b < blocks, other=float("-inf"))
        best = tl.minimum(best, tl.min(tl.where((b < blocks) & (maximum == top), b, blocks), axis=0))
    at = best * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    width = tl.load(record + _WIDTH).to(tl.int32)
    dtype = tl.load(record + _DTYPE).to(tl.int32)
    x = load_numbers(tl.load(record + _ADDRESS), dtype, at, width, float("-inf"))
    return tl.min(tl.where((x == top) & (at < width), at, width), axis=0)


@triton.jit
def lay_scales(maxima, scales, blocks, top, c, is_weights):
    """Write by what the sums of all blocks are brought to the scale of the largest maximum."""
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        own = b < blocks
        maximum = tl.load(maxima + b, mask=own, other=float("-inf")).to(tl.float64)
        if c == 0:
            scale = tl.full((_LANES,), 1.0, tl.float64)
        elif is_weights != 0:
            scale = exp2(log2(maximum / top.to(tl.float64)) * (c * _LN_2))
        else:
            scale = exp2((maximum - top.to(tl.float64)) * tl.minimum(c, 1e300))
        tl.store(scales + b, scale, mask=own)
    tl.debug_barrier()


@triton.jit
def accumulate(maxima, sums, scales, ends, blocks, top, c, is_weights):
    """Bring the sums of all blocks to the scale of the largest maximum, and cumulate. Returns the total."""
    lay_scales(maxima, scales, blocks, top, c, is_weights)
    total = tl.full((), 0.0, tl.float64)
    for b in range(blocks):
        own_sum = tl.load(sums + b)
        total = tl.where(own_sum > 0, total + own_sum * tl.load(scales + b), total)
        tl.store(ends + b, total)
    tl.debug_barrier()
    return total


@triton.jit
def _first_above(ends, blocks, target):
    """Find the first block whose cumulative sum exceeds `target`; `blocks` if none does."""
    low, high = blocks * 0, blocks
    while low < high:
        middle = (low + high) >> 1
        is_above = tl.load(ends + middle) > target
        high = tl.where(is_above, middle, high)
        low = tl.where(is_above, low, middle + 1)
    return low


@triton.jit
def _first_at(ends, blocks, total):
    """Find the first block whose cumulative sum is the total: the last one that adds to it."""
    low, high = blocks * 0, blocks
    while low < high:
        middle = (low + high) >> 1
        is_there = tl.load(ends + middle) >= total
        high = tl.where(is_there, middle, high)
        low = tl.where(is_there, low, middle + 1)
    return low


@triton.jit
def _quarter(address, dtype, base, width, maximum, c, is_weights, k: tl.constexpr):
    """Weigh numbers 4 k to 4 k + 3 of each group of 16: float64[32, 4]."""
    at = base + tl.arange(0, _GROUPS)[:, None] * _GROUP + k * 4 + tl.arange(0, 4)[None, :]
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    return weigh(load_numbers(address, dtype, at, width, fill), maximum, c, is_weights).to(tl.float64)


@triton.jit
def _locate(record, spare, b, maximum, scale, before, target):
    """Find the first number of block b at which before + scale x cumulative mass exceeds the target; else its last."""
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    base = b * BLOCK_SIZE
    sums = _quarter(address, dtype, base, width, maximum, c, is_weights, 0)
    sums = sums + _quarter(address, dtype, base, width, maximum, c, is_weights, 1)
    sums = sums + _quarter(address, dtype, base, width, maximum, c, is_weights, 2)
    sums = sums + _quarter(address, dtype, base, width, maximum, c, is_weights, 3)
    pairs = tl.sum(tl.reshape(sums, (_GROUPS, 2, 2)), axis=2)
    tl.debug_barrier()
    tl.store(spare + tl.arange(0, _GROUPS), tl.sum(pairs, axis=1))
    tl.debug_barrier()
    group, last = b * 0 - 1, b * 0
    upto, start = before, before
    for k in range(_GROUPS):
        own_sum = tl.load(spare + k)
        after = upto + own_sum * scale
        is_hit = (group < 0) & (own_sum > 0) & (after > target)
        group = tl.where(is_hit, k, group)
        start = tl.where(is_hit, upto, start)
        last = tl.where(own_sum > 0, k, last)
        upto = after
    is_found = group >= 0
    first = base + tl.where(is_found, group, last) * _GROUP
    lane = tl.arange(0, _GROUP)
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    mass = weigh(load_numbers(address, dtype, first + lane, width, fill), maximum, c, is_weights)
    tl.debug_barrier()
    tl.store(spare + lane, mass.to(tl.float64))
    tl.debug_barrier()
    inside = tl.full((), 0.0, tl.float64)
    found, last = b * 0 - 1, b * 0
    for k in range(_GROUP):
        own = tl.load(spare + k)
        inside = inside + own
        is_hit = is_found & (found < 0) & (own > 0) & (start + inside * scale > target)
        found = tl.where(is_hit, k, found)
        last = tl.where(own > 0, k, last)
    return first + tl.where(found >= 0, found, last)


@triton.jit
def draw_at(record, spare, maxima, scales, ends, blocks, total, u):
    """Draw from a row by a uniform u: a position."""
    target = u * total
    b = _first_above(ends, blocks, target)
    if b == blocks:
        b = _first_at(ends, blocks, total)
    before = tl.load(ends + tl.maximum(b - 1, 0))
    before = tl.where(b > 0, before, 0.0)
    return _locate(record, spare, b, tl.load(maxima + b), tl.load(scales + b), before, target)


@triton.jit
def _noise(record, d):
    """Make the uniform of draw d of a row."""
    row_index = tl.load(record + _ROW_INDEX).to(tl.uint32)
    index = (tl.load(record + _DRAW_OFFSET) + d).to(tl.uint64, bitcast=True)
    seed = tl.load(record + _SEED).to(tl.uint64, bitcast=True)
    return uniform(seed, index, row_index, row_index * 0 + _DRAW)


@triton.jit
def pick(records, tasks, maxima, bits, sums, scales, ends, spare, samples, status, detail):
    """Draw from rows that were measured.

    records: int64[R, PITCH]; tasks: int64[P, 4]: of each program the record, its first draw, how many it makes, and
    where its share of scales and ends, float64, begins; spare: float64[P, SPARE]. Writes samples: int32, flat,
    positions, or -1 in a row that failed, and status: int32[B], detail: int64[B], as `kernels.plain.draw_view` does.
    """
    program = tl.program_id(0)
    task = tasks + 4 * program
    row, first = tl.load(task), tl.load(task + 1)
    count, own_at = tl.load(task + 2), tl.load(task + 3)
    record = records + row * _PITCH
    width, is_weights = tl.load(record + _WIDTH).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    first_block = tl.load(record + _FIRST_BLOCK)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    maxima, bits, sums = maxima + first_block, bits + first_block, sums + first_block
    scales, ends, spare = scales + own_at, ends + own_at, spare + program * _SPARE
    out = samples + tl.load(record + _SAMPLE_AT) + first
    dtype = tl.load(record + _DTYPE).to(tl.int32)
    reason, where, top = survey(tl.load(record + _ADDRESS), dtype, width, maxima, bits, blocks, is_weights)
    if reason != 0:
        for d in range(count):
            tl.store(out + d, -1)
    elif c < 0:
        largest = _largest(record, maxima, blocks, top)
        for d in range(count):
            tl.store(out + d, largest)
    else:
        total = accumulate(maxima, sums, scales, ends, blocks, top, c, is_weights)
        for d in range(count):
            u = _noise(record, first + d)
            tl.store(out + d, draw_at(record, spare, maxima, scales, ends, blocks, total, u))
    if first == 0:
        in_batch = tl.load(record + _ROW)
        tl.store(status + in_batch, reason)
        tl.store(detail + in_batch, where.to(tl.int64))
