"""Rows as the kernels take them: a record of whole numbers for each, and how its numbers are read and weighed.

Rule 1: a record says where a row lies, how long it is and how its numbers are stored, so that rows of unlike widths,
dtypes and parameters are drawn from in one launch and in place. Rule 2: as in `kernels/blocks.py`, a row is read in
blocks of 512; numbers past its end weigh nothing.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from enum import IntEnum, IntFlag

import triton
import triton.language as tl

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.arithmetic import exp2, exp2_32, log2
from samplerd_server.sampling.kernels.blocks import BLOCK, FLAT, STEEP
from samplerd_server.sampling.kernels.exp2 import LN_2

__all__ = ["BLOCK_SIZE", "PITCH", "Field", "Mode", "is_bad", "load_numbers", "sum_block", "sum_terms", "weigh"]


class Field(IntEnum):
    """Places in a record, int64[PITCH]."""

    ADDRESS = 0
    WIDTH = 1
    DTYPE = 2
    IS_WEIGHTS = 3
    INVERSE = 4
    """The bits of a float64: see `kernels.measure.inverse`."""
    FIRST_BLOCK = 5
    """Where the row's blocks begin among those of all rows."""
    SEED = 6
    DRAW_OFFSET = 7
    ROW_INDEX = 8
    SAMPLE_AT = 9
    TOP_K = 10
    TOP_P = 11
    """The bits of a float64, as of the two that follow."""
    MIN_P = 12
    TEMPERATURE = 13
    """The distribution's; 0 = certainty of the first of the largest."""
    SHIFT = 14
    """See `masses.shift_of`."""
    ROW = 15
    """The row's place in the batch."""
    FLAGS = 16
    """`core.outputs.OutputFlags`."""
    RAW = 17
    """The record of the row as it was sent at T = 1; -1 = no output needs it."""
    SCALED = 18
    """That of the distribution before the filters; -1 = no output needs it."""
    FINAL = 19
    """That of what is drawn from."""
    LIST_AT = 20
    """Where the row's list of what is kept begins; -1 = it has no filter."""
    TOP_N = 21
    TOP_AT = 22
    NAMED = 23
    """The address of int32[NAMED_LEN]."""
    NAMED_LEN = 24
    NAMED_AT = 25
    STEPS = 26
    """Four bits for each step of the row's order, the first lowest: see `kernels.filter_table.step_at`."""
    STEPS_LEN = 27
    FIRST_STEP = 28
    """The place of the first filter that is on."""
    FILTERS = 29
    """A bit for each filter that is on."""
    TIES = 30
    """Two bits for each filter: its rule about equals."""
    LEAST = 31
    """How many a filter keeps at least."""
    IS_EXACT = 32
    JUDGED = 33
    """The bits of a float64, as of the eight that follow: the temperature at which the first filter judges."""
    TOP_N_SIGMA = 34
    TOP_A = 35
    TYPICAL_P = 36
    EPSILON = 37
    ETA = 38
    TOP_H = 39
    XTC_PROBABILITY = 40
    XTC_THRESHOLD = 41
    IDS = 42
    """The address of the ids of candidates, int32[WIDTH of the row]; 0 = positions are ids."""
    TREE_AT = 43
    """Where the tree of a row that is drawn from without replacement begins; -1 = draws are with replacement."""
    TARGET = 44
    """The bits of a float64: the probability that adaptive-p prefers."""
    EXEMPT = 45
    """The address of int32[EXEMPT_LEN], ascending: the positions that are exempt from XTC."""
    EXEMPT_LEN = 46
    MODE = 47
    """See `Mode`."""
    SKEW = 48
    """The bits of a float64; 0 = what is kept is not skewed."""
    XTC_DRAW = 49
    """The index of the row's very first draw, in whichever part it was made: XTC's noise follows it."""
    SMOOTHING = 50
    """The bits of a float64, as of the three that follow; of rows of `Mode.LATE` alone, as all that follow."""
    CURVE = 51
    RANGE = 52
    """Of the dynamic temperature, which moves around TEMPERATURE; 0 = it is not dynamic."""
    EXPONENT = 53
    LISTED = 54
    """How many categories there are before any filter, if the largest entropy is of all that a filter lists; else 0."""


class Mode(IntFlag):
    """What else is to be known of a row."""

    SUMMED = 1
    """The mass of what is kept is the sum of its shares in the scaled distribution, since it has other logits."""
    EXEMPTS_ROW = 2
    """XTC does nothing where it would drop an exempt token."""
    SHAPED = 4
    """adaptive-p shapes what is kept."""
    ADAPTIVE = 8
    """adaptive-p is on, whatever the temperature is."""
    DYNAMIC = 16
    """The temperature is dynamic, and may become 0."""
    LATE = 32
    """The temperature is dynamic, or logits are smoothed by it, and a filter comes before."""


PITCH = 55
"""Whole numbers in a record: 440 bytes, four lines of the cache."""
BLOCK_SIZE = tl.constexpr(BLOCK)
_F16, _BF16, _F64 = (tl.constexpr(int(dtype)) for dtype in (Dtype.F16, Dtype.BF16, Dtype.F64))
_FLAT, _STEEP, _LN_2 = tl.constexpr(FLAT), tl.constexpr(STEEP), tl.constexpr(LN_2)


@triton.jit
def load_numbers(address, dtype, at, width, fill):
    """Load the numbers at positions int32[...] of a row as float32; `fill` past its end."""
    inside = at < width
    if dtype == _F16:
        half = tl.load(address.to(tl.pointer_type(tl.float16)) + at, mask=inside, other=0.0)
        x = half.to(tl.float32)
    elif dtype == _BF16:
        bits = tl.load(address.to(tl.pointer_type(tl.uint16)) + at, mask=inside, other=0)
        x = (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    elif dtype == _F64:
        wide = tl.load(address.to(tl.pointer_type(tl.float64)) + at, mask=inside, other=0.0)
        narrow = wide.to(tl.float32)
        is_lost = (narrow == float("-inf")) & (wide != float("-inf"))
        x = tl.where(is_lost, float("inf"), narrow)
    else:
        x = tl.load(address.to(tl.pointer_type(tl.float32)) + at, mask=inside, other=0.0)
    return tl.where(inside, x, fill)


@triton.jit
def _wide_gap(x, maximum, c):
    wide = (x.to(tl.float64) - maximum.to(tl.float64)) * c
    return tl.where(wide > -_STEEP, wide, -_STEEP).to(tl.float32)


@triton.jit
def weigh(x, maximum, c, is_weights):
    """Compute masses, float32, of a block's numbers x, relative to its maximum; c as in `kernels.measure`, not below 0.

    Where the maximum is that of a block without mass they mean nothing.
    """
    if c == 0:
        mass = x
    elif is_weights != 0:
        mass = exp2(log2(x.to(tl.float64) / maximum.to(tl.float64)) * (c * _LN_2)).to(tl.float32)
    else:
        t = (x - maximum) * tl.minimum(c, _STEEP).to(tl.float32)
        if c > _STEEP:  # c is beyond float32
            t = _wide_gap(x, maximum, c)
        if c < _FLAT:  # the gap may be beyond float32, or it is -inf x 0
            t = tl.where((t == float("-inf")) | (t != t), _wide_gap(x, maximum, c), t)  # noqa: PLR0124
        mass = exp2_32(t)
    return mass


@triton.jit
def _halve(sums, n: tl.constexpr):
    return tl.sum(tl.reshape(sums, (2, n // 2)), axis=0)  # sums of two, whose order cannot matter


@triton.jit
def sum_terms(terms):
    """Sum float64[512] by halving."""
    sums = _halve(terms, 512)
    sums = _halve(sums, 256)
    sums = _halve(sums, 128)
    sums = _halve(sums, 64)
    sums = _halve(sums, 32)
    sums = _halve(sums, 16)
    sums = _halve(sums, 8)
    sums = _halve(sums, 4)
    return tl.sum(sums, axis=0)


@triton.jit
def sum_block(mass):
    """Sum a block's masses, float32[512], as float64, by halving."""
    return sum_terms(mass.to(tl.float64))


@triton.jit
def is_bad(maximum, bits, is_weights):
    """Tell whether a block of this maximum and these largest bits, uint32, holds what no row may hold."""
    limit = tl.where(is_weights != 0, 0x80000000, 0xFF800000).to(tl.uint32)
    return (maximum == float("inf")) | (maximum != maximum) | (bits > limit)  # noqa: PLR0124  # NaN alone is not itself
