"""Log-probabilities of successive draws without replacement: each is that among what was left before it.

Law: `kernels/outputs.py`, to the bit: what is left after the last draw is measured, and draws are put back one by one.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import exp, ln
from samplerd_server.sampling.cuda.kinds import load_kind, relative
from samplerd_server.sampling.cuda.moments import exponent_of
from samplerd_server.sampling.cuda.pick import lay_scales
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, Field, load_numbers, sum_block, weigh
from samplerd_server.sampling.cuda.survey import top_of
from samplerd_server.sampling.cuda.tree_memory import is_marked, mark, unmark_all

__all__ = ["position_of", "write_conditional"]

_LANES = tl.constexpr(128)
_INVERSE, _FIRST_BLOCK = tl.constexpr(Field.INVERSE), tl.constexpr(Field.FIRST_BLOCK)


@triton.jit
def position_of(out, positions, is_mapped, d):
    """Find the position of draw d in a distribution: where is_mapped, a list says where its numbers lie."""
    at = tl.load(out + d)
    if is_mapped:
        at = tl.load(positions + at)
    return at


@triton.jit
def _measure_left(kind, tree, blocks, b, left, sums):
    """Measure what is left of a block, as `measure` does."""
    address, dtype, width, is_weights, _ = load_kind(kind)
    c = tl.load(kind + _INVERSE).to(tl.float64, bitcast=True)
    fill = tl.where(is_weights != 0, 0.0, float("-inf"))
    at = b * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    x = tl.where(is_marked(tree, blocks, at), fill, load_numbers(address, dtype, at, width, fill))
    maximum = tl.max(x, axis=0)
    total = sum_block(weigh(x, maximum, c, is_weights))
    tl.store(left + b, maximum)
    tl.store(sums + b, tl.where(maximum > fill, total, 0.0))


@triton.jit
def _log_add(a, b):
    high, low = tl.maximum(a, b), tl.minimum(a, b)
    return tl.where(low == float("-inf"), high, high + ln(1.0 + exp(low - high)))


@triton.jit
def write_conditional(kind, tree, maxima, sums, scales, ends, left, out, positions, is_mapped, count, logprobs):
    """Write float32[count], of draws whose positions are at `out`. scales, ends, left and tree are scratch."""
    _, _, width, is_weights, temperature = load_kind(kind)
    c = tl.load(kind + _INVERSE).to(tl.float64, bitcast=True)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    maxima, sums = maxima + tl.load(kind + _FIRST_BLOCK), sums + tl.load(kind + _FIRST_BLOCK)
    unmark_all(tree, blocks)
    for d in range(count):
        mark(tree, blocks, position_of(out, positions, is_mapped, d))
    for low in range(0, blocks, _LANES):
        b = low + tl.arange(0, _LANES)
        tl.store(left + b, tl.load(maxima + b, mask=b < blocks, other=0.0), mask=b < blocks)
        tl.store(ends + b, tl.load(sums + b, mask=b < blocks, other=0.0), mask=b < blocks)
    tl.debug_barrier()
    for d in range(count):
        _measure_left(kind, tree, blocks, position_of(out, positions, is_mapped, d) // BLOCK_SIZE, left, ends)
    tl.debug_barrier()
    top = top_of(left, blocks)
    lay_scales(left, scales, blocks, top, c, is_weights)
    total = tl.full((), 0.0, tl.float64)
    for b in range(blocks):
        own_sum = tl.load(ends + b)
        total = tl.where(own_sum > 0, total + own_sum * tl.load(scales + b), total)
    base = tl.where(total > 0, exponent_of(top, temperature, is_weights), 0.0)
    rest = ln(total)
    for j in range(count):
        d = count - 1 - j
        own = relative(kind, position_of(out, positions, is_mapped, d), tl.full((), 0.0, tl.float64))
        is_larger = (own > base) | (rest == float("-inf"))
        rest = tl.where(is_larger & (rest != float("-inf")), rest + (base - own), rest)
        base = tl.where(is_larger, own, base)
        rest = _log_add(rest, own - base)
        tl.store(logprobs + d, (own - base - rest).to(tl.float32))
