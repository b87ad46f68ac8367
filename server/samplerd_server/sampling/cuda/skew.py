"""skew: what the filters kept gets new logits, by its cumulative probabilities along the total order.

Law: `sampling.shapes`, to the bit. A program sorts the list of its row by single bits, from the lowest to the highest,
which keeps equal numbers in the order of their positions; bits that all numbers share are passed over.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.cuda.lists import key_of
from samplerd_server.sampling.cuda.masses import exp_of, log2_of, mass_of, power_of
from samplerd_server.sampling.shapes import LEAST

__all__ = ["skew_list"]

_LANES, _LN_2, _LEAST = tl.constexpr(512), tl.constexpr(LN_2), tl.constexpr(LEAST)
_BELOW = tl.constexpr(0x7FFFFFFF)
"""Taken from this, keys of larger numbers become smaller ones, of 0 to 2^32 - 1."""
_PLACE = tl.constexpr(0xFFFFFFFF)


@triton.jit
def _split(source, target, count, bit):
    """Copy what does not have a bit to the front of target, and the others behind it. Returns whether it did.

    It does not where all have the bit, or none.
    """
    zeros = tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = tl.load(source + at, mask=at < count, other=-1)
        zeros += tl.sum(tl.where(at < count, 1 - ((own >> bit) & 1), 0), axis=0)
    is_split = (zeros > 0) & (zeros < count)
    if is_split:
        lows, highs = zeros * 0, zeros
        for low in range(0, count, _LANES):
            at = low + tl.arange(0, _LANES)
            own = tl.load(source + at, mask=at < count, other=0)
            is_high = tl.where(at < count, (own >> bit) & 1, 0)
            is_low = tl.where(at < count, 1 - is_high, 0)
            to = tl.where(is_high != 0, highs + tl.cumsum(is_high, axis=0), lows + tl.cumsum(is_low, axis=0)) - 1
            tl.store(target + to, own, mask=at < count)
            lows += tl.sum(is_low, axis=0)
            highs += tl.sum(is_high, axis=0)
        tl.debug_barrier()
    return is_split


@triton.jit
def _sort(numbers, masses, keys, count):
    """Sort a list along the total order. Returns where it lies, masses or keys: keys above, places below."""
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        key = key_of(tl.load(numbers + at, mask=at < count, other=0.0))
        tl.store(keys + at, ((-key + _BELOW) << 32) | at.to(tl.int64), mask=at < count)
    tl.debug_barrier()
    source, target = keys.to(tl.int64, bitcast=True), masses.to(tl.int64, bitcast=True)
    bit = tl.full((), 32, tl.int64)
    while bit < 64:
        is_moved = _split(source.to(tl.pointer_type(tl.int64)), target.to(tl.pointer_type(tl.int64)), count, bit)
        source, target = tl.where(is_moved, target, source), tl.where(is_moved, source, target)
        bit += 1
    return source.to(tl.pointer_type(tl.int64))


@triton.jit
def skew_list(numbers, masses, keys, count, total, top, temperature, shift, skew):
    """Give a list of logits, of which `top` is the largest and `total` the mass, new ones. masses, keys: scratch."""
    order = _sort(numbers, masses, keys, count)
    k, whole, added = exp_of(skew), total.to(tl.float64), tl.full((), 0, tl.int64)
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = tl.load(order + at, mask=at < count, other=0)
        key = (-((own >> 32) & _PLACE) + _BELOW).to(tl.int32)
        y = (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
        mass = tl.where(at < count, mass_of(tl.where(at < count, y, top), top, temperature, shift, 0), 0)
        upto = added + tl.cumsum(mass, axis=0)
        added += tl.sum(mass, axis=0)
        power = power_of(upto.to(tl.float64) / whole, k)
        is_first = at == 0
        below = power_of(tl.where(is_first, upto, upto - mass).to(tl.float64) / whole, k)
        share = tl.maximum(tl.where(is_first, power, power - below), _LEAST)
        tl.store(numbers + (own & _PLACE), (log2_of(share) * _LN_2).to(tl.float32), mask=at < count)
    tl.debug_barrier()
