"""Building a CDF index: the sums that a draw from the row would search, kept.

Law. The draw from a row (kernels/plain.py) finds a block by the sums of blocks, in it a group of sixteen, and in that a
number; each step compares sums that do not depend on the uniform. The index keeps the sums of the groups, limited to
the sum of their block where rounding has made them larger, and raised to it at the last group that adds to it, which is
where the draw from a row ends up as well when nothing has passed its target. So the first group whose sum exceeds a
target is the group that the draw from the row finds, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.sampling.cdf_index.layout import GROUP
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY, load_block, weigh_block, weigh_powers
from samplerd_server.sampling.kernels.compile import carray, float32_at, int32_at, jit, kernel
from samplerd_server.sampling.kernels.exp2 import LN_2, LOG2_E
from samplerd_server.sampling.kernels.light import is_light, light_view
from samplerd_server.sampling.kernels.measure import measure_view
from samplerd_server.sampling.kernels.memory import Noise, View, cut_scratch
from samplerd_server.sampling.kernels.philox import DRAW
from samplerd_server.sampling.kernels.plain import draw_view_apart
from samplerd_server.sampling.kernels.references import reference
from samplerd_server.sampling.kernels.search import locate, search_blocks
from samplerd_server.sampling.kernels.shapes import prepare_shaped
from samplerd_server.sampling.kernels.work import disown

__all__ = ["build_cdf_index", "keep_row"]


_WEIGHTS, _F32 = int(InputKind.PROBABILITIES), int(Dtype.F32)
_QUIET = Noise(np.uint64(0), np.uint64(0), np.uint32(0), np.int64(DRAW))
"""Placeholder for the argmax, which uses no noise."""


@jit
def _load(view, b, x):
    """Read block b of a row, filled up with numbers of no weight."""
    low = np.int64(b) * BLOCK
    fill = np.float32(0) if view.is_weights else TINY
    load_block(view.address, view.dtype, low, min(BLOCK, view.width - low), fill, x)


@jit
def _weigh(view, b, c, scratch):
    """Weigh block b as the draw from a row does, into scratch.mass."""
    _load(view, b, scratch.x)
    if c == 0:
        for i in range(BLOCK):
            scratch.mass[i] = scratch.x[i]
    elif view.is_weights:
        weigh_powers(scratch.x, scratch.maxima[b], c * LN_2, scratch.mass)
    else:
        weigh_block(scratch.x, scratch.maxima[b], c, scratch.mass)


@jit
def _sum_groups(mass, first, before, scale, end, ends):
    """Write the cumulative sums of a block's groups, from group `first` on, summed as kernels/search.py does."""
    count = min(BLOCK // GROUP, len(ends) - first)
    last = 0
    for group in range(count):
        p, q, r, s = 0.0, 0.0, 0.0, 0.0
        for i in range(group * GROUP, (group + 1) * GROUP, 4):
            p += np.float64(mass[i])
            q += np.float64(mass[i + 1])
            r += np.float64(mass[i + 2])
            s += np.float64(mass[i + 3])
        total = (p + q) + (r + s)
        last = group if total > 0 else last
        before += total * scale
        ends[first + group] = min(before, end)
    for group in range(last, count):
        ends[first + group] = end


@jit
def _guide(ends, total, guide):
    """Write for each part of [0, 1) the first group that a uniform in it may fall into."""
    size = len(guide) - 1
    group = 0
    for part in range(size):
        target = (part / size) * total
        while not ends[group] > target:
            group += 1
        guide[part] = group
    guide[size] = len(ends) - 1


@kernel
def build_cdf_index(numbers, dtype, width, is_weights, temperature, ends, guide, maxima, scales, space):
    """Build the CDF index of a row that can be drawn from, at T > 0.

    numbers: address of the row; ends, guide, maxima, scales: filled here, see layout.py; space: see
    kernels/workspace.py. Returns the total, how to weigh, and the place beyond.
    """
    scratch = cut_scratch(space)
    view = View(np.uint64(numbers), np.int64(dtype), np.int64(width), is_weights)
    blocks = len(maxima)
    _, total = measure_view(view, temperature, False, scratch)
    c = 0.0 if is_weights and temperature == 1 else LOG2_E / temperature
    for b in range(blocks):
        maxima[b] = scratch.maxima[b]
        scales[b] = scratch.scales[b]
        before, end = scratch.ends[b - 1] if b else 0.0, scratch.ends[b]
        first = b * (BLOCK // GROUP)
        if end > before:
            _weigh(view, b, c, scratch)
            _sum_groups(scratch.mass, first, before, scales[b], end, ends)
        else:
            ends[first : first + BLOCK // GROUP] = end
    _guide(ends, total, guide)
    b = search_blocks(scratch.ends, blocks, total)
    _weigh(view, b, c, scratch)
    beyond = locate(scratch.mass, scales[b], scratch.ends[b - 1] if b else 0.0, total)
    return total, c, b * BLOCK + beyond


@jit
def _keep(row, work, scratch):
    """Take a row through the pipeline. Returns status, its view, its temperature, whether work.at has its ids."""
    if is_light(row):
        return 0, light_view(row, work), row.temperature, False
    kept = prepare_shaped(row, reference(work), reference(scratch))
    return kept.status, kept.final.numbers, kept.final.temperature, kept.is_filtered


@kernel
def keep_row(rows, i, numbers, ids, work, space):
    """Take rows[i] of rows: ROW[B] through the pipeline, for an index of what the filters keep.

    numbers, ids: addresses of float32[V] and int32[V], filled with as many as are kept. Returns how many, the
    temperature to weigh them at, whether they are weights, and whether ids were written; 0 if the row cannot be drawn
    from. At T = 0 only the argmax is kept.
    """
    scratch = cut_scratch(space)
    memory = disown(work)
    status, view, temperature, is_filtered = _keep(rows[i], memory, scratch)
    if status:
        return 0, 0.0, False, False
    width = view.width
    into, names = carray(float32_at(np.uint64(numbers)), width), carray(int32_at(np.uint64(ids)), width)
    if temperature == 0:
        status, _, _, _ = draw_view_apart(view, 0.0, 1, False, -np.inf, _QUIET, names[:1], scratch)
        names[0] = memory.at[names[0]] if is_filtered else names[0]
        into[0] = np.float32(0)
        return 1 if status == 0 else 0, 1.0, False, True
    for b in range((width + BLOCK - 1) // BLOCK):
        _load(view, b, scratch.x)
        low = b * BLOCK
        for j in range(min(BLOCK, width - low)):  # an assignment of slices would compile its error message, too
            into[low + j] = scratch.x[j]
    if is_filtered:
        for j in range(width):
            names[j] = memory.at[j]
    return width, temperature, view.is_weights, is_filtered
