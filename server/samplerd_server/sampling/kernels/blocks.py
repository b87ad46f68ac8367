"""Blocks of 512 numbers: how a row is read, weighed and summed.

A row is read in place, once, a block at a time; every loop runs over a whole block, so that its length is constant and
the compiler vectorises it. Short last blocks are filled up with numbers that weigh nothing.

Law: the mass of x in a block with maximum m is 2^((x - m) c), c = log2(e) / T, in float32; a block's sum is float64 by
halving (256 + 256, 128 + 128, ...): the same bits on every vector width, and off by less than 1e-15 of itself.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.kernels.compile import as_bits, as_float, jit, load_bf16, load_f16, load_f32, load_f64
from samplerd_server.sampling.kernels.exp2 import exp2, exp2_32, log2

__all__ = [
    "BLOCK",
    "FLAT",
    "TINY",
    "block_maximum",
    "load_block",
    "sum_block",
    "sum_half",
    "weigh_block",
    "weigh_powers",
]

BLOCK = 512
"""Numbers in a block: 2 KiB, so that a block, its masses and its partial sums stay in the first-level cache."""

TINY = np.float32(-np.inf)
_F16, _BF16, _F64 = int(Dtype.F16), int(Dtype.BF16), int(Dtype.F64)
_FLIP = np.int32(0x7FFFFFFF)
_LOWEST = np.int32(-0x80000000)
FLAT, STEEP = 2.0**-60, 3e38
"""Below the first c, at temperatures above 10^18, a gap that float32 cannot hold may still have a mass; a c above the
second float32 cannot hold itself, at temperatures below 10^-38."""


@jit
def load_block(address, dtype, low, count, fill, x):
    """Read numbers [low, low + count) of the row at `address` into x: float32[BLOCK], followed by `fill`."""
    if dtype == _F16:
        for i in range(count):
            x[i] = load_f16(address, low + i)
    elif dtype == _BF16:
        for i in range(count):
            x[i] = load_bf16(address, low + i)
    elif dtype == _F64:
        for i in range(count):
            x[i] = load_f64(address, low + i)
    else:
        for i in range(count):
            x[i] = load_f32(address, low + i)
    for i in range(count, BLOCK):
        x[i] = fill


@jit
def block_maximum(x):
    """Find the largest number of a block, and the largest of its bits as unsigned integers.

    Bits are compared, not numbers, since integer maxima vectorise: with the lower bits of negatives flipped, integers
    order like the numbers, +NaN above +inf. The unsigned bits show what hides below: -NaN (above 0xff800000) and, in a
    row of weights, a negative number (above 0x80000000).
    """
    most, bits_most = _LOWEST, np.uint32(0)
    for i in range(BLOCK):
        bits = as_bits(x[i])
        unsigned = np.uint32(bits)
        key = bits ^ ((bits >> np.int32(31)) & _FLIP)
        most = key if key > most else most
        bits_most = unsigned if unsigned > bits_most else bits_most
    return as_float(np.int32(most ^ ((most >> np.int32(31)) & _FLIP))), bits_most


@jit
def weigh_block(x, maximum, c, mass):
    """Compute mass: float32[BLOCK] of x: float32[BLOCK], with a finite maximum; c: float64."""
    single = np.float32(min(c, STEEP))
    if c < FLAT or c > STEEP:
        for i in range(BLOCK):
            t = (x[i] - maximum) * single
            if c > STEEP or not t > TINY:  # c is beyond float32; or the gap is, or it is -inf x 0
                t = np.float32(max((np.float64(x[i]) - np.float64(maximum)) * c, -STEEP))
            mass[i] = exp2_32(t)
        return
    for i in range(BLOCK):
        mass[i] = exp2_32((x[i] - maximum) * single)


@jit
def weigh_powers(x, maximum, power, mass):
    """Compute mass: float32[BLOCK] = (x / maximum)^power of weights x: float32[BLOCK]; the maximum is positive."""
    for i in range(BLOCK):
        mass[i] = np.float32(exp2(log2(np.float64(x[i]) / np.float64(maximum)) * power))


@jit
def sum_block(mass, half):
    """Sum mass: float32[BLOCK] as float64, by halving; half is float64[BLOCK / 2] scratch."""
    for i in range(256):
        half[i] = np.float64(mass[i]) + np.float64(mass[256 + i])
    return sum_half(half)


@jit
def sum_half(half):
    """Sum half: float64[BLOCK / 2], in which number i and number 256 + i of a block were added; it is overwritten."""
    for i in range(128):
        half[i] += half[128 + i]
    for i in range(64):
        half[i] += half[64 + i]
    for i in range(32):
        half[i] += half[32 + i]
    for i in range(16):
        half[i] += half[16 + i]
    for i in range(8):
        half[i] += half[8 + i]
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]))
