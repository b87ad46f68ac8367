"""The memory of a tree of whole sums, int64 words of one row: see `tree.py`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.kernels.mass_tree import FAN

__all__ = [
    "BASES",
    "COUNTS",
    "FIRSTS",
    "GRAINS",
    "LEVELS",
    "MAXIMA",
    "OPEN",
    "PATH",
    "TOP",
    "TOTALS",
    "is_marked",
    "load_double",
    "mark",
    "part_of",
    "rounded",
    "slots_of",
    "store_double",
    "tree_words",
    "unmark_all",
]

_FAN, _LANES = tl.constexpr(FAN), tl.constexpr(128)

_HEAD = 64
"""Words before everything else: where each level begins, how many nodes it has, the sums that `find` passed, the sum of
the levels' nodes, and the largest number."""
FIRSTS, COUNTS, PATH = tl.constexpr(0), tl.constexpr(16), tl.constexpr(32)
LEVELS, TOP, BEGIN = tl.constexpr(48), tl.constexpr(49), tl.constexpr(_HEAD)
TOTALS, BASES, GRAINS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
MAXIMA, OPEN, MARKS, SLOTS = tl.constexpr(3), tl.constexpr(4), tl.constexpr(5), tl.constexpr(13)
"""Places of what is said of blocks, in numbers of blocks: marks are eight words of each."""


def tree_words(blocks: int) -> int:
    """Count the int64 words of the tree of a row of so many blocks."""
    padded = -(-max(blocks, 1) // FAN) * FAN
    slots, count = 0, padded // FAN
    while True:
        slots += count * FAN
        if count == 1:
            break
        count = -(-count // FAN)
    return _HEAD + 13 * padded + 2 * slots + 2 * (slots // FAN)


@triton.jit
def rounded(blocks):
    """Round a number of blocks up to whole nodes."""
    return ((blocks + _FAN - 1) // _FAN * _FAN).to(tl.int64)


@triton.jit
def part_of(tree, blocks, place):
    """Find where a part begins, by its place."""
    return tree + BEGIN + rounded(blocks) * place


@triton.jit
def slots_of(tree, blocks):
    """Find where slots, shifts, and bases and fines of nodes begin."""
    slots = part_of(tree, blocks, SLOTS)
    levels = tl.load(tree + LEVELS)
    last = levels - 1
    length = tl.load(tree + FIRSTS + last) + tl.load(tree + COUNTS + last) * _FAN
    return slots, slots + length, slots + 2 * length, slots + 2 * length + length // _FAN


@triton.jit
def load_double(pointer, mask):
    """Load float64 numbers; 0 where the mask is not set."""
    return tl.load(pointer, mask=mask, other=0).to(tl.float64, bitcast=True)


@triton.jit
def store_double(pointer, value, mask):
    """Store float64 numbers where the mask is set."""
    tl.store(pointer, value.to(tl.int64, bitcast=True), mask=mask)


@triton.jit
def mark(tree, blocks, at):
    """Mark that the number at a position is taken."""
    words = part_of(tree, blocks, MARKS).to(tl.pointer_type(tl.int32)) + (at >> 5)
    tl.store(words, tl.load(words) | (tl.full((), 1, tl.int32) << (at & 31).to(tl.int32)))
    tl.debug_barrier()


@triton.jit
def is_marked(tree, blocks, at):
    """Tell which numbers of a block are taken: at is int32[512], of one block."""
    word = tl.load(part_of(tree, blocks, MARKS).to(tl.pointer_type(tl.int32)) + (at >> 5))
    return ((word >> (at & 31)) & 1) != 0


@triton.jit
def unmark_all(tree, blocks):
    """Mark that nothing is taken."""
    marks = part_of(tree, blocks, MARKS)
    words = 8 * rounded(blocks)
    for low in range(0, words, _LANES):
        at = low + tl.arange(0, _LANES)
        tl.store(marks + at, (at * 0).to(tl.int64), mask=at < words)
    tl.debug_barrier()
