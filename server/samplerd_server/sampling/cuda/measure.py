"""The first launch: one read of every row, which leaves the maximum, the largest bits and the sum of each block.

Law: `kernels/measure.py`. A program takes `EACH` blocks of one row, with one warp.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, load_numbers, sum_block, weigh

__all__ = ["EACH", "measure", "measure_block"]

EACH = 4
"""Blocks of a program: 8 KiB of float32."""

_EACH, _PITCH = tl.constexpr(EACH), tl.constexpr(PITCH)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK = tl.constexpr(Field.FIRST_BLOCK)


@triton.jit
def measure_block(address, dtype, width, is_weights, c, b, at, maxima, bits, sums):
    """Measure block b of a row, and write at place `at` of maxima, bits and sums."""
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    x = load_numbers(address, dtype, b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE), width, fill)
    own = x.to(tl.int32, bitcast=True)
    most = tl.max(own ^ ((own >> 31) & 0x7FFFFFFF), axis=0)
    maximum = (most ^ ((most >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    tl.store(maxima + at, maximum)
    tl.store(bits + at, tl.max(own.to(tl.uint32, bitcast=True), axis=0).to(tl.int32, bitcast=True))
    if c >= 0:
        total = sum_block(weigh(x, maximum, c, is_weights))
        tl.store(sums + at, tl.where(maximum > fill, total, 0.0))


@triton.jit
def measure(records, tasks, maxima, bits, sums):
    """Measure the blocks of rows.

    records: int64[B, PITCH]; tasks: int32[P, 2], the row and its first block of each program. Writes of every block of
    every row maxima: float32, bits: int32, and sums: float64, which mean nothing in rows that are at fault.
    """
    task = tasks + 2 * tl.program_id(0)
    record = records + tl.load(task).to(tl.int64) * _PITCH
    first = tl.load(task + 1)
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    first_block = tl.load(record + _FIRST_BLOCK)
    for b in range(first, tl.minimum(first + _EACH, (width + BLOCK_SIZE - 1) // BLOCK_SIZE)):
        measure_block(address, dtype, width, is_weights, c, b, first_block + b, maxima, bits, sums)
