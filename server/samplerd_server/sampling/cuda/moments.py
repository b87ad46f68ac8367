"""What entropies add up, of each block: masses times their exponents below the largest.

Law: `kernels/outputs.entropy_view`. A program takes `EACH` blocks of one record, which `measure` has measured.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: SIM108 -- kernels branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import exp, exp2, ln
from samplerd_server.sampling.cuda.measure import EACH
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, load_numbers, sum_block, sum_terms, weigh
from samplerd_server.sampling.cuda.survey import top_of
from samplerd_server.sampling.kernels.blocks import FLAT
from samplerd_server.sampling.kernels.exp2 import LOG2_E

__all__ = ["exponent_of", "moments"]

_EACH, _PITCH = tl.constexpr(EACH), tl.constexpr(PITCH)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK, _TEMPERATURE = tl.constexpr(Field.FIRST_BLOCK), tl.constexpr(Field.TEMPERATURE)
_FLAT, _LOG2_E, _FARTHEST = tl.constexpr(FLAT), tl.constexpr(LOG2_E), tl.constexpr(-1e300)


@triton.jit
def exponent_of(top, temperature, is_weights):
    """Compute the exponent that masses are relative to; see `kernels.measure.exponent_of`."""
    wide = top.to(tl.float64)
    if is_weights != 0:
        exponent = tl.where(temperature == 1, 0.0, ln(wide) / temperature)
    else:
        exponent = wide / temperature
    return exponent


@triton.jit
def _moment_of_weights(x, temperature, exponent):
    gap = tl.maximum(ln(x.to(tl.float64)) / temperature - exponent, _FARTHEST)
    return sum_terms(exp2(gap * _LOG2_E) * gap)


@triton.jit
def _moment_of_logits(x, maximum, c, temperature, exponent):
    mass = weigh(x, maximum, c, 0)
    own = sum_block(mass)
    if c < _FLAT:
        gap = (x.to(tl.float64) - maximum.to(tl.float64)) / temperature
        gaps = sum_terms(tl.where(x > float("-inf"), mass.to(tl.float64) * gap, 0.0))
    else:
        gaps = sum_block(mass * tl.maximum(x - maximum, -1e30)) / temperature
    away = maximum.to(tl.float64) / temperature - exponent
    return exp(away) * (gaps + tl.maximum(away, _FARTHEST) * own)


@triton.jit
def moments(records, tasks, maxima, terms):
    """Write of every block of records: int64[R, PITCH] what it adds to the entropy, terms: float64.

    tasks: int32[P, 2], the record and its first block of each program. Records at fault get what means nothing.
    """
    task = tasks + 2 * tl.program_id(0)
    record = records + tl.load(task).to(tl.int64) * _PITCH
    first = tl.load(task + 1)
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    temperature = tl.load(record + _TEMPERATURE).to(tl.float64, bitcast=True)
    first_block = tl.load(record + _FIRST_BLOCK)
    maxima, terms = maxima + first_block, terms + first_block
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    exponent = exponent_of(top_of(maxima, blocks), temperature, is_weights)
    for b in range(first, tl.minimum(first + _EACH, blocks)):
        x = load_numbers(address, dtype, b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE), width, fill)
        maximum = tl.load(maxima + b)
        if is_weights != 0:
            term = _moment_of_weights(x, temperature, exponent)
        elif maximum > float("-inf"):
            term = _moment_of_logits(x, maximum, c, temperature, exponent)
        else:
            term = tl.full((), 0.0, tl.float64)
        tl.store(terms + b, term)
