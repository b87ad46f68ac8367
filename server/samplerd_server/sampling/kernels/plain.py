"""Rows without filters: temperature and a draw, nothing else. One pass over the row, then one block for each draw.

Law (docs/sampling.md): with masses m_i and their cumulative sums c_i in ascending id order, the draw for a uniform u is
the first id with c_i > u c_V. Each block has the sum of its masses relative to its own maximum; cumulative sums over
blocks are float64 in block order; the search inside a block adds the same masses in id order. A category of no mass
cannot be the first to pass anything, and where rounding leaves u c_V beyond the last sum the last category of positive mass
is drawn. Without replacement a drawn number is read as "never" from then on, and its block is measured again: no sum is
ever made by subtraction, so categories of any positive probability are reached once the likelier ones are gone.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0917 -- a kernel takes its arrays one by one, and branches where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.request import InputKind, RowErrorReason
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY, block_maximum, load_block, sum_block, weigh_block
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.exp2 import LOG2_E, exp2, ln
from samplerd_server.sampling.kernels.philox import DRAW, uniform

__all__ = ["draw_plain", "find_bad", "is_bad", "locate", "search_blocks"]

_WEIGHTS = int(InputKind.PROBABILITIES)
_NAN, _INFINITE = int(RowErrorReason.NAN), int(RowErrorReason.POSITIVE_INFINITY)
_NEGATIVE, _NOTHING = int(RowErrorReason.NEGATIVE_WEIGHT), int(RowErrorReason.NOTHING_TO_DRAW)
_TOO_FEW = int(RowErrorReason.TOO_FEW_TO_DRAW)
_NEGATIVE_ZERO, _NEGATIVE_INFINITY = np.uint32(0x80000000), np.uint32(0xFF800000)
_ONE = np.uint64(1)
_WORDS = BLOCK // 64


@jit
def is_bad(maximum, bits, is_weights):
    """Tell whether a block of this maximum and these largest bits holds what no row may hold."""
    return not (maximum < np.inf) or bits > (_NEGATIVE_ZERO if is_weights else _NEGATIVE_INFINITY)


@jit
def find_bad(x, low, count, is_weights):
    """Find the reason and the id of the first number of a bad block that no row may hold."""
    for i in range(count):
        if np.isnan(x[i]):
            return _NAN, low + i
        if x[i] == np.inf:
            return _INFINITE, low + i
        if is_weights and x[i] < 0:
            return _NEGATIVE, low + i
    return 0, 0


@jit
def _take_out(x, taken, block, fill):
    """Overwrite what was drawn from this block, as the bits of `taken` say."""
    for word in range(_WORDS):
        bits = taken[block * _WORDS + word]
        if bits:
            for j in range(64):
                if (bits >> np.uint64(j)) & _ONE:
                    x[word * 64 + j] = fill


@jit
def _measure(row, block, c, taken, x, mass, half):
    """Read, weigh and sum one block. Returns its maximum, its largest bits and its sum, relative to the maximum.

    With c = 0 the numbers are weights at T = 1 and are masses as they are; with c < 0 nothing is weighed (argmax).
    """
    is_weights = row.kind == _WEIGHTS
    fill = np.float32(0) if is_weights else TINY
    low = np.int64(block) * BLOCK
    load_block(row.data, row.dtype, low, min(BLOCK, row.width - low), fill, x)
    if row.without:
        _take_out(x, taken, block, fill)
    maximum, bits = block_maximum(x)
    if c < 0 or is_bad(maximum, bits, is_weights):
        return maximum, bits, 0.0
    if c == 0:
        return maximum, bits, sum_block(x, half)
    if is_weights:
        for i in range(BLOCK):
            x[i] = np.float32(ln(np.float64(x[i])))
        maximum = np.float32(ln(np.float64(maximum)))
    if maximum == -np.inf:
        return maximum, bits, 0.0
    weigh_block(x, maximum, np.float32(min(c, 3e38)), mass)
    return maximum, bits, sum_block(mass, half)


@jit
def _accumulate(maxima, sums, blocks, c, scales, ends):
    """Bring the sums of all blocks to the scale of the largest maximum; ends: float64[blocks], cumulative."""
    top = TINY
    for b in range(blocks):
        top = max(top, maxima[b])
    total = 0.0
    if c == 0:
        for b in range(blocks):
            scales[b] = 1.0
    else:
        for b in range(blocks):
            scales[b] = exp2((np.float64(maxima[b]) - np.float64(top)) * min(c, 1e300))
    for b in range(blocks):
        if sums[b] > 0:
            total += sums[b] * scales[b]
        ends[b] = total
    return total


@jit
def search_blocks(ends, blocks, target):
    """Find the first block whose cumulative sum exceeds `target`; if none does, the last one that adds to the sum."""
    low, high = 0, blocks
    while low < high:
        middle = (low + high) >> 1
        if ends[middle] > target:
            high = middle
        else:
            low = middle + 1
    if low == blocks:
        low = blocks - 1
        while low > 0 and ends[low] == ends[low - 1]:
            low -= 1
    return low


@jit
def locate(mass, scale, before, target):
    """Find the first of mass: float32[BLOCK] at which before + scale * cumulative > target; else the last positive.

    Sixteen at a time, so that the chain of dependent additions is short.
    """
    last = 0
    for group in range(0, BLOCK, 16):
        s = 0.0
        for i in range(16):
            s += np.float64(mass[group + i])
        if s > 0:
            if before + s * scale > target:
                inside = 0.0
                for i in range(16):
                    if mass[group + i] > 0:
                        last = group + i
                        inside += np.float64(mass[group + i])
                        if before + inside * scale > target:
                            return last
                return last
            for i in range(16):
                if mass[group + i] > 0:
                    last = group + i
            before += s * scale
    return last


@jit
def _first_largest(maxima, blocks, nothing):
    """Find the first block with the largest maximum, -1 if that is `nothing`."""
    best = -1
    top = nothing
    for b in range(blocks):
        if maxima[b] > top:
            top = maxima[b]
            best = b
    return best


@jit
def _inverse(row):
    """Tell _measure how to weigh: log2(e) / T; 0 for weights at T = 1; -1 for T = 0."""
    if row.temperature == 0:
        return -1.0
    if row.kind == _WEIGHTS and row.temperature == 1:
        return 0.0
    return LOG2_E / row.temperature


@jit
def _draw_row(row, samples, taken, w32, w64):
    """Draw S ids from one row. Returns its status and detail."""
    blocks = (row.width + BLOCK - 1) // BLOCK
    x, mass, maxima = w32[:BLOCK], w32[BLOCK : 2 * BLOCK], w32[2 * BLOCK :]
    half, rest = w64[: BLOCK // 2], w64[BLOCK // 2 :]
    sums, scales, ends = rest[:blocks], rest[blocks : 2 * blocks], rest[2 * blocks : 3 * blocks]
    is_weights = row.kind == _WEIGHTS
    nothing = np.float32(0) if is_weights else TINY
    c = _inverse(row)
    for b in range(blocks):
        maxima[b], bits, sums[b] = _measure(row, b, c, taken, x, mass, half)
        if is_bad(maxima[b], bits, is_weights):
            return find_bad(x, b * BLOCK, min(BLOCK, row.width - b * BLOCK), is_weights)
    if is_weights and c > 0:
        nothing = TINY
    if _first_largest(maxima, blocks, nothing) < 0:
        return _NOTHING, 0
    total = _accumulate(maxima, sums, blocks, c, scales, ends)
    inside = mass if c > 0 else x
    ready = blocks - 1
    for d in range(row.num_samples):
        if c < 0:
            b = _first_largest(maxima, blocks, nothing)
            if b < 0:
                return _TOO_FEW, d
        else:
            if not total > 0:
                return _TOO_FEW, d
            target = uniform(row.seed, row.draw_offset + np.uint64(d), row.row_index, DRAW) * total
            b = search_blocks(ends, blocks, target)
        if b != ready:
            _measure(row, b, c, taken, x, mass, half)
            ready = b
        if c < 0:
            at = 0
            while x[at] != maxima[b]:
                at += 1
        else:
            at = locate(inside, scales[b], ends[b - 1] if b else 0.0, target)
        samples[row.sample_at + d] = b * BLOCK + at
        if row.without:
            taken[b * _WORDS + at // 64] |= _ONE << np.uint64(at % 64)
            maxima[b], _, sums[b] = _measure(row, b, c, taken, x, mass, half)
            if c >= 0:
                total = _accumulate(maxima, sums, blocks, c, scales, ends)
    return 0, 0


@jit
def draw_plain(rows, begin, end, samples, status, detail, taken, w32, w64):
    """Draw from the plain rows of rows: ROW[B] in [begin, end).

    samples: int32, flat; status, detail: of these rows. Rows that are not plain, or want more than samples, get status
    -1. Workspaces: taken: uint64, all 0; w32: float32, w64: float64 (see `Workspace`). Returns the width of the widest
    row it had no room for (those get -1 too), or 0; and how many rows got -1.
    """
    room = len(taken) // _WORDS * BLOCK
    widest = 0
    left = 0
    for i in range(begin, end):
        row = rows[i]
        if not row.plain or row.wanted or row.width > room:
            if row.width > room:
                widest = max(widest, row.width)
            status[i] = -1
            left += 1
            continue
        status[i], detail[i] = _draw_row(row, samples, taken, w32, w64)
        first = row.sample_at
        if row.without and (status[i] == 0 or status[i] == _TOO_FEW):
            for d in range(row.num_samples if status[i] == 0 else detail[i]):
                taken[samples[first + d] // 64] = np.uint64(0)
        if status[i] != 0:
            for d in range(row.num_samples):
                samples[first + d] = -1
    return widest, left
