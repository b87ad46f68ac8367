"""The most likely ids of a distribution, and the log-probabilities of named ones."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.kinds import Output, load_kind, relative, singles, whole_numbers
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, Field, load_numbers
from samplerd_server.sampling.cuda.survey import top_of

__all__ = ["find_place", "first_largest", "next_largest", "write_named", "write_top"]

_LANES = tl.constexpr(512)
_FIRST_BLOCK, _TOP_N, _TOP_AT = tl.constexpr(Field.FIRST_BLOCK), tl.constexpr(Field.TOP_N), tl.constexpr(Field.TOP_AT)
_IDS = tl.constexpr(Field.IDS)
_NAMED, _NAMED_LEN, _NAMED_AT = (
    tl.constexpr(Field.NAMED),
    tl.constexpr(Field.NAMED_LEN),
    tl.constexpr(Field.NAMED_AT),
)
_OF_TOP_IDS, _OF_TOP_LOGPROBS = tl.constexpr(Output.TOP_IDS), tl.constexpr(Output.TOP_LOGPROBS)
_OF_NAMED = tl.constexpr(Output.NAMED)


@triton.jit
def find_place(positions, count, wanted):
    """Find the place of a position in a list of them, -1 if it is not there."""
    found = count
    for low in range(0, count, _LANES):
        at = low + tl.arange(0, _LANES)
        own = tl.load(positions + at, mask=at < count, other=-1)
        found = tl.minimum(found, tl.min(tl.where((own == wanted) & (at < count), at, count), axis=0))
    return tl.where(found < count, found, -1)


@triton.jit
def next_largest(kind, left, blocks, value, at):
    """Find what follows number `value` at position `at` in the total order: its number and position.

    left: float32[blocks], the largest number that is left of each block, of which this one is taken.
    """
    address, dtype, width, _, _ = load_kind(kind)
    best = top_of(left, blocks)
    b = blocks
    for low in range(0, blocks, _LANES):
        own = low + tl.arange(0, _LANES)
        is_best = tl.load(left + own, mask=own < blocks, other=float("-inf")) == best
        b = tl.minimum(b, tl.min(tl.where(is_best & (own < blocks), own, blocks), axis=0))
    places = b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    x = load_numbers(address, dtype, places, width, float("-inf"))
    follows = (x < value) | ((x == value) & (places > at))
    place = tl.min(tl.where(follows & (x == best) & (places < width), places, width), axis=0)
    follows = (x < best) | ((x == best) & (places > place))
    tl.debug_barrier()
    tl.store(left + b, tl.max(tl.where(follows, x, float("-inf")), axis=0), mask=b < blocks)
    tl.debug_barrier()
    return best, place


@triton.jit
def first_largest(kind, maxima):
    """Find the first of the largest numbers of a distribution."""
    address, dtype, width, _, _ = load_kind(kind)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    maxima = maxima + tl.load(kind + _FIRST_BLOCK)
    top, first = top_of(maxima, blocks), width
    for b in range(blocks):
        if (tl.load(maxima + b) == top) & (first == width):
            at = b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
            x = load_numbers(address, dtype, at, width, float("-inf"))
            first = tl.min(tl.where((x == top) & (at < width), at, width), axis=0)
    return first


@triton.jit
def write_top(record, kind, k, listed, maxima, left, spare, outputs):
    """Write the most likely n of one kind; listed: the positions of its numbers in the row, if they are a list."""
    _, _, width, is_weights, temperature = load_kind(kind)
    tokens = tl.load(record + _IDS)
    n, out = tl.load(record + _TOP_N).to(tl.int32), tl.load(record + _TOP_AT)
    ids = whole_numbers(outputs, _OF_TOP_IDS + k) + out
    logprobs = singles(outputs, _OF_TOP_LOGPROBS + k) + out
    limit = tl.where(temperature == 0, 1, width)
    nothing = tl.where(is_weights != 0, 0.0, float("-inf"))
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    own_maxima = maxima + tl.load(kind + _FIRST_BLOCK)
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        tl.store(left + b, tl.load(own_maxima + b, mask=b < blocks, other=0.0), mask=b < blocks)
    tl.debug_barrier()
    value, at = tl.full((), float("inf"), tl.float32), width * 0 - 1
    is_left = n > 0
    for d in range(n):
        logprob = tl.full((), float("-inf"), tl.float64)
        if is_left & (d < limit):
            value, at = next_largest(kind, left, blocks, value, at)
            is_left = value > nothing
            if is_left:
                own = at
                if listed != 0:
                    own = tl.load(listed.to(tl.pointer_type(tl.int32)) + at)
                if tokens != 0:
                    own = tl.load(tokens.to(tl.pointer_type(tl.int32)) + own)
                tl.store(ids + d, own)
                logprob = tl.full((), 0.0, tl.float64)
                if temperature > 0:
                    logprob = relative(kind, at, tl.load(spare)) - tl.load(spare + 1)
        tl.store(logprobs + d, logprob.to(tl.float32))


@triton.jit
def write_named(record, kind, k, listed, drawn, spare, outputs):
    """Write the log-probabilities of named ids of one kind; drawn: what is certain at T = 0."""
    _, _, width, _, temperature = load_kind(kind)
    named = tl.load(record + _NAMED).to(tl.pointer_type(tl.int32))
    out = singles(outputs, _OF_NAMED + k) + tl.load(record + _NAMED_AT)
    for j in range(tl.load(record + _NAMED_LEN).to(tl.int32)):
        at = tl.load(named + j)
        if listed != 0:
            at = find_place(listed.to(tl.pointer_type(tl.int32)), width, at)
        value = tl.full((), float("-inf"), tl.float64)
        if at >= 0:
            if temperature > 0:
                value = relative(kind, at, tl.load(spare)) - tl.load(spare + 1)
            elif at == drawn:
                value = tl.full((), 0.0, tl.float64)
        tl.store(out + j, value.to(tl.float32))
