"""What is kept of rows with filters: a list of numbers and their positions, which is then drawn from as a plain row.

A program takes a row: `keep.py` lists at most 1,024 numbers in scratch of that length, `narrow.py` whatever there is.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.keep import keep_few
from samplerd_server.sampling.cuda.late import heat_row
from samplerd_server.sampling.cuda.measure import measure_block
from samplerd_server.sampling.cuda.narrow import narrow
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, Mode
from samplerd_server.sampling.cuda.shape import shape_list
from samplerd_server.sampling.cuda.survey import survey

__all__ = ["select"]

_PITCH = tl.constexpr(PITCH)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _FIRST_BLOCK = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.FIRST_BLOCK)
_LIST_AT, _FINAL, _ROW = tl.constexpr(Field.LIST_AT), tl.constexpr(Field.FINAL), tl.constexpr(Field.ROW)
_MODE, _SHAPED = tl.constexpr(Field.MODE), tl.constexpr(int(Mode.SHAPED))
_STEPS_LEN, _INVERSE = tl.constexpr(Field.STEPS_LEN), tl.constexpr(Field.INVERSE)
_SMOOTHING, _LATE = tl.constexpr(Field.SMOOTHING), tl.constexpr(int(Mode.LATE))


@triton.jit
def select(records, tasks, maxima, bits, sums, numbers, positions, masses, keys, reasons, details):
    """Find what is kept of rows that `measure` has measured.

    records: int64[R, PITCH]; tasks: int64[P], the record of each program. numbers: float32 and positions: int32 are the
    lists of what is kept; masses and keys: int64 are scratch as long, the keys of rows for `narrow` alone. The width of
    the row's final record becomes how many they are, 0 in a row that failed, whose reason and detail are written; what
    is kept is measured as `measure` does.
    """
    record = records + tl.load(tasks + tl.program_id(0)) * _PITCH
    width, dtype = tl.load(record + _WIDTH).to(tl.int32), tl.load(record + _DTYPE).to(tl.int32)
    is_weights, first_block = tl.load(record + _IS_WEIGHTS).to(tl.int32), tl.load(record + _FIRST_BLOCK)
    list_at, in_batch = tl.load(record + _LIST_AT), tl.load(record + _ROW)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    row_maxima, row_bits = maxima, bits
    maxima, bits, numbers, positions = maxima + first_block, bits + first_block, numbers + list_at, positions + list_at
    count = tl.full((), 0, tl.int64)
    reason, where, top = survey(tl.load(record + _ADDRESS), dtype, width, maxima, bits, blocks, is_weights)
    is_new = tl.load(reasons + in_batch) == 0  # else the row failed before
    if reason == 0:
        if tl.load(record + _STEPS_LEN) == 0:
            count = keep_few(record, top, maxima, numbers, positions, masses + list_at).to(tl.int64)
        else:
            of_list = (numbers, positions, masses + list_at, keys + list_at)
            count, temperature, own_weights = narrow(record, top, maxima, *of_list)
            own = temperature
            if (tl.load(record + _MODE) & _LATE) != 0:
                heat_row(records, record, top, temperature, row_maxima, row_bits, sums)
                if tl.load(record + _SMOOTHING) != 0:
                    own = tl.where(temperature > 0, 1.0, temperature)
            if ((tl.load(record + _MODE) & _SHAPED) != 0) & (temperature > 0):
                shape_list(record, numbers, masses + list_at, keys + list_at, count, own, own_weights)
    final = records + tl.load(record + _FINAL) * _PITCH
    tl.store(final + _WIDTH, count)
    tl.debug_barrier()
    kept, address, at = count.to(tl.int32), tl.load(final + _ADDRESS), tl.load(final + _FIRST_BLOCK)
    dtype, is_weights = tl.load(final + _DTYPE).to(tl.int32), tl.load(final + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(final + _INVERSE).to(tl.float64, bitcast=True)
    for b in range((kept + BLOCK_SIZE - 1) // BLOCK_SIZE):
        measure_block(address, dtype, kept, is_weights, c, b, at + b, row_maxima, row_bits, sums)
    tl.store(reasons + in_batch, reason, mask=is_new)
    tl.store(details + in_batch, where.to(tl.int64), mask=is_new)
