"""What top_k, top_p and min_p keep of a row, gathered in order of position.

Law: `kernels/filters.py`, `sampling.masses`: masses are whole numbers, so that no sum has an order. All three keep a
prefix of the total order, and top_k comes first: what is left then is at most `MOST` numbers. A program takes a row.
The k-th largest number is found bit by bit, by counting what is at least a candidate; blocks whose maximum is below it
are not read.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.masses import mass_of
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, Field, load_numbers
from samplerd_server.sampling.masses import PART

__all__ = ["MOST", "keep_few"]

MOST = 1024
"""Most numbers that are kept of a row: two blocks."""

_MOST = tl.constexpr(MOST)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _TOP_K = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.TOP_K)
_TOP_P, _MIN_P = tl.constexpr(Field.TOP_P), tl.constexpr(Field.MIN_P)
_TEMPERATURE, _SHIFT = tl.constexpr(Field.TEMPERATURE), tl.constexpr(Field.SHIFT)
_PART = tl.constexpr(PART)


@triton.jit
def _key(x):
    """Map float32 numbers to int32 that order like them; -0.0 as 0.0."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _count(address, dtype, width, maxima, blocks, fill, key):
    """Count the numbers of a row whose key is at least `key`."""
    count = blocks * 0
    for b in range(blocks):
        if _key(tl.load(maxima + b)) >= key:
            at = b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
            x = load_numbers(address, dtype, at, width, fill)
            count += tl.sum(((_key(x) >= key) & (at < width)).to(tl.int32), axis=0)
    return count


@triton.jit
def _gather(address, dtype, width, maxima, blocks, fill, key, room, numbers, positions):
    """Copy what is above a key, and the first `room` of what has it, in order of position. Returns how many."""
    count, equal = blocks * 0, blocks * 0
    for b in range(blocks):
        if _key(tl.load(maxima + b)) >= key:
            at = b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
            x = load_numbers(address, dtype, at, width, fill)
            own = _key(x)
            is_equal = ((own == key) & (at < width)).to(tl.int32)
            is_kept = ((own > key) & (at < width)).to(tl.int32)
            is_kept += is_equal * ((equal + tl.cumsum(is_equal, axis=0)) <= room).to(tl.int32)
            place = count + tl.cumsum(is_kept, axis=0) - 1
            tl.store(numbers + place, x, mask=is_kept != 0)
            tl.store(positions + place, at, mask=is_kept != 0)
            count += tl.sum(is_kept, axis=0)
            equal += tl.sum(is_equal, axis=0)
    return count


@triton.jit
def _precede(numbers, masses, y, lane, count):
    """Of each of the numbers y: how many precede it in the total order, and their mass."""
    rank = lane * 0
    before = rank.to(tl.int64)
    for j in range(count):
        other = tl.load(numbers + j)
        is_first = ((other > y) | ((other == y) & (lane > j))).to(tl.int32)
        rank += is_first
        before += is_first.to(tl.int64) * tl.load(masses + j)
    return rank, before


@triton.jit
def _ceil(x):
    whole = x.to(tl.int64)
    return whole + (whole.to(tl.float64) < x).to(tl.int64)


@triton.jit
def keep_few(record, top, maxima, numbers, positions, masses):
    """List what top_k, and top_p and min_p after it, keep of a row of which `top` is the largest number.

    Returns how many. maxima, numbers: float32, positions: int32 and masses: int64 scratch are the row's own.
    """
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    k, shift = tl.load(record + _TOP_K).to(tl.int32), tl.load(record + _SHIFT)
    temperature = tl.load(record + _TEMPERATURE).to(tl.float64, bitcast=True)
    p, share = (
        tl.load(record + _TOP_P).to(tl.float64, bitcast=True),
        tl.load(record + _MIN_P).to(tl.float64, bitcast=True),
    )
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    # The least key whose number can be drawn: that of the smallest positive weight, or of the least finite logit.
    lowest = tl.where(is_weights != 0, 1, -2139095040)
    key = lowest
    if _count(address, dtype, width, maxima, blocks, fill, lowest) > k:
        high = _key(top)
        low = lowest
        while low < high:  # the largest key that k numbers have at least
            middle = (low.to(tl.int64) + (high.to(tl.int64) - low.to(tl.int64) + 1) // 2).to(tl.int32)
            is_reached = _count(address, dtype, width, maxima, blocks, fill, middle) >= k
            low = tl.where(is_reached, middle, low)
            high = tl.where(is_reached, high, middle - 1)
        key = low
    above = _count(address, dtype, width, maxima, blocks, fill, key + 1)
    count = _gather(address, dtype, width, maxima, blocks, fill, key, k - above, numbers, positions)
    tl.debug_barrier()
    if (p < 1) | (share > 0):
        lane = tl.arange(0, _MOST)
        own = lane < count
        y = tl.load(numbers + lane, mask=own, other=fill)
        at = tl.load(positions + lane, mask=own, other=0)
        mass = tl.where(own, mass_of(tl.where(own, y, top), top, temperature, shift, is_weights), 0)
        tl.store(masses + lane, mass)
        tl.debug_barrier()
        rank, before = _precede(numbers, masses, y, lane, count)
        length = count
        if p < 1:
            needed = _ceil(tl.sum(mass, axis=0).to(tl.float64) * p)
            is_needed = own & ((rank == 0) | (before + (mass >> _PART) < needed))
            length = tl.sum(is_needed.to(tl.int32), axis=0)
        if share > 0:
            needed = _ceil(share * tl.max(mass, axis=0).to(tl.float64))
            is_reached = own & (rank < length) & (mass + (mass >> _PART) >= needed)
            length = tl.maximum(tl.sum(is_reached.to(tl.int32), axis=0), 1)
        is_kept = own & (rank < length)
        place = tl.cumsum(is_kept.to(tl.int32), axis=0) - 1
        tl.debug_barrier()
        tl.store(numbers + place, y, mask=is_kept)
        tl.store(positions + place, at, mask=is_kept)
        count = length
    return count
