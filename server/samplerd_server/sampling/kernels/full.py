"""Rows with parameters: steps 0 to 7 of the pipeline for one row.

The row is read once into the thread's memory, adjusted there, gathered and filtered; what is left is drawn from by the
same code as a plain row. A row pays for the steps that it asks for.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0912, PLR0915, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, RowErrorReason, Step
from samplerd_server.sampling.kernels.adjust import RAISED, add_bias, has_mask, has_penalties, mask_tokens, penalise
from samplerd_server.sampling.kernels.arithmetic import ln
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY, block_maximum, load_block
from samplerd_server.sampling.kernels.candidates import forget_places, place_candidates, sort_candidates
from samplerd_server.sampling.kernels.compile import jit, shared
from samplerd_server.sampling.kernels.dry import dry
from samplerd_server.sampling.kernels.filter_table import (
    early_filters,
    filters_on,
)
from samplerd_server.sampling.kernels.filters import entropy
from samplerd_server.sampling.kernels.gather import count_above, count_at_least, gather, largest_of_blocks
from samplerd_server.sampling.kernels.guidance import guide
from samplerd_server.sampling.kernels.measure import find_bad, is_bad
from samplerd_server.sampling.kernels.memory import View
from samplerd_server.sampling.kernels.outputs import Kind
from samplerd_server.sampling.kernels.references import dereference
from samplerd_server.sampling.kernels.steps import take_steps
from samplerd_server.sampling.kernels.temperature import bend_row, bends, dynamic_temperature, keeps_order
from samplerd_server.sampling.kernels.units import make_scale, rest_mass, weigh
from samplerd_server.sampling.masses import NONE

__all__ = ["FilterState", "prepare"]

_WEIGHTS, _F32 = int(InputKind.PROBABILITIES), int(Dtype.F32)
_NOTHING, _OUTSIDE = int(RowErrorReason.NOTHING_TO_DRAW), int(RowErrorReason.OUTSIDE_CANDIDATES)
_MASK, _BIAS = int(Step.MASK), int(Step.BIAS)
_LEAST = np.float32(-3.4028234663852886e38)
_SMALLEST = np.float32(1e-45)


class FilterState(NamedTuple):
    """The outcome of steps 0 to 7 of a row."""

    status: Any
    detail: Any
    raw: Any
    """Kind: as sent."""
    scaled: Any
    """Kind: adjusted, at T."""
    final: Any
    """Kind: what is drawn from."""
    is_filtered: Any
    """Whether positions in `final` are indices of work.at."""
    certain: Any
    """int64: how many of the first of the order precede what was not sent."""


@jit
def _address(array):
    return np.uint64(array.ctypes.data)


@jit
def _read(row, work, scratch):
    """Take steps 0 and 1: read the row into x; candidates in order of id, also into raw. Returns status and detail."""
    is_weights = row.kind == _WEIGHTS
    fill = np.float32(0) if is_weights else TINY
    width = np.int64(row.width)
    for low in range(0, width, BLOCK):
        x = work.x[low : low + BLOCK]
        load_block(row.data, row.dtype, low, min(BLOCK, width - low), fill, x)
        maximum, bits = block_maximum(x)
        scratch.maxima[low // BLOCK] = maximum
        if is_bad(maximum, bits, is_weights):
            return find_bad(x, low, is_weights)
    if row.candidate_ids:
        sort_candidates(row, work)
    return 0, 0


@jit
def _to_logits(work, width):
    """Turn weights into logits, so that biases and penalties can be added."""
    for i in range((width + BLOCK - 1) // BLOCK * BLOCK):
        work.x[i] = np.float32(ln(np.float64(work.x[i])))


@jit
def _adjust(row, work, scratch, work_at, scratch_at, is_weights, rest):
    """Take steps 2 to 4. Returns status, detail, the largest number, whether they are still weights, the rest."""
    nothing = np.float32(0) if is_weights else TINY
    width = np.int64(row.width)
    top = TINY
    for b in range((width + BLOCK - 1) // BLOCK):  # as _read found them; candidates are in another order now
        top = max(top, scratch.maxima[b])
    if row.candidate_ids:
        largest_of_blocks(work, width, scratch)
    if not top > nothing and rest == -np.inf:
        return _NOTHING, 0, top, is_weights, rest
    if not has_mask(row) and row.bias_ids_len == 0 and not has_penalties(row):
        return 0, 0, top, is_weights, rest
    return _change(row, work_at, scratch_at, top, is_weights, rest)


@shared
def _change(row, work_at, scratch_at, top, is_weights, rest):
    """Take steps 2 to 4 of a row that asks for one of them. Returns what `_adjust` does."""
    work, scratch = dereference(work_at), dereference(scratch_at)
    nothing = np.float32(0) if is_weights else TINY
    width = np.int64(row.width)
    if has_mask(row):
        rest = mask_tokens(row, work, nothing, rest)
        top = largest_of_blocks(work, width, scratch)
        if not top > nothing and rest == -np.inf:
            return _NOTHING, _MASK, top, is_weights, rest
    if row.bias_ids_len == 0 and not has_penalties(row):
        return 0, 0, top, is_weights, rest
    if is_weights:
        _to_logits(work, width)
    if row.bias_ids_len:
        rest = add_bias(row, work, rest)
        top = largest_of_blocks(work, width, scratch)
        if top == -np.inf and rest == -np.inf:
            return _NOTHING, _BIAS, top, False, rest
    if has_penalties(row):
        rest = penalise(row, work, rest)
        if row.dry_multiplier > 0:
            rest = dry(row, work, rest)
        top = largest_of_blocks(work, width, scratch)
    return 0, 0, top, False, rest


@jit
def prepare(row, work, scratch, work_at, scratch_at):
    """Take a row through steps 0 to 7. Returns `FilterState`. work_at, scratch_at: references to the two before."""
    width = np.int64(row.width)
    source_weights = row.kind == _WEIGHTS
    is_sparse = row.candidate_ids != 0
    raw_view = View(np.uint64(row.data), np.int64(row.dtype), width, source_weights)
    if is_sparse:
        raw_view = View(_address(work.raw), np.int64(_F32), width, source_weights)
    rest = row.rest_logsumexp if is_sparse else -np.inf
    raw = Kind(raw_view, 1.0, rest, np.int64(0))
    status, detail = _read(row, work, scratch)
    bound, certain, above, top = TINY, width, width, TINY
    is_weights = source_weights
    if status == 0 and row.guidance:
        status, detail = guide(row, work, scratch, is_weights)
        is_weights = False
        largest_of_blocks(work, width, scratch)
    if status == 0:
        if rest != -np.inf:
            bound = work.x[0]
            for i in range(width):
                bound = min(bound, work.x[i])
        place_candidates(row, work)
        status, detail, top, is_weights, rest = _adjust(row, work, scratch, work_at, scratch_at, is_weights, rest)
        forget_places(row, work)
        if is_weights != source_weights and rest != -np.inf:
            bound = np.float32(ln(np.float64(bound)))
    view = View(_address(work.x), np.int64(_F32), width, is_weights)
    lowest = _SMALLEST if is_weights else _LEAST
    if status == 0 and (rest == RAISED or not top >= lowest):
        status, detail = _OUTSIDE, np.int64(0)
    if status:
        return FilterState(status, detail, raw, raw, raw, False, certain)
    if rest != -np.inf:
        certain = count_at_least(work, width, bound)
        above = count_above(work, width, bound)
    on = filters_on(row)
    is_early = early_filters(row, on)
    # Greedy rows leave here; their scaled distribution is that of T = 1.
    if row.temperature == 0 and not is_early:
        first = np.int64(0)
        while work.x[first] != top:
            first += 1
        if rest != -np.inf and max(1, row.num_samples if row.without else 1) > certain:
            status = _OUTSIDE
        scaled = Kind(view, 1.0, rest, first)
        return FilterState(status, detail, raw, scaled, Kind(view, 0.0, -np.inf, first), False, certain)
    temperature = row.temperature
    is_open = (row.dynamic_temperature_range > 0 and not is_early) or not keeps_order(row)
    if rest != -np.inf and row.temperature > 0 and is_open:
        return FilterState(_OUTSIDE, np.int64(0), raw, raw, raw, False, certain)
    if row.dynamic_temperature_range > 0 and not is_early:
        at_one = make_scale(row, top, 1.0, is_weights, bound, certain, above)
        count = gather(work, width, lowest, scratch)
        total = weigh(at_one, work.y, work.mass, count)
        counted = np.int64(row.vocab_size) if row.dynamic_temperature_counts_all else count
        temperature = dynamic_temperature(row, entropy(at_one, work, count, total), counted)
    if bends(row, temperature) and not is_early:
        top, rest, bound, certain = bend_row(row, work, scratch, top, temperature, is_weights, rest, bound, certain)
        above = count_above(work, width, bound) if rest != -np.inf else above
        is_weights, temperature, lowest = False, 1.0, _LEAST
        view = View(_address(work.x), np.int64(_F32), width, False)
    left = rest
    if on == 0:
        final_view, is_filtered, first = view, False, np.int64(0)
        if left != -np.inf and temperature != 1:
            left = np.nan
    else:
        judged = 1.0 if is_early else max(temperature, 1e-300)
        scale = make_scale(row, top, judged, is_weights, bound, certain, above)
        kept = take_steps(row, work_at, scratch_at, scale, on, rest, rest_mass(scale, rest), temperature)
        if kept.count < 0:
            return FilterState(_OUTSIDE, np.int64(0), raw, raw, raw, False, certain)
        temperature = kept.temperature
        if bends(row, temperature) and is_early:
            top, rest, bound, certain = bend_row(row, work, scratch, top, temperature, is_weights, rest, bound, certain)
            is_weights, temperature = False, 1.0
            view = View(_address(work.x), np.int64(_F32), width, False)
        final_view, is_filtered = View(_address(work.y), np.int64(_F32), kept.count, is_weights), True
        left = -np.inf if kept.rest == NONE else (rest if temperature == 1 else np.nan)
        first = np.int64(0)
        for i in range(kept.count if temperature == 0 or row.temperature == 0 else 0):
            first = i if work.y[i] > work.y[first] else first
        if row.temperature == 0:  # the argmax of what is kept; the scaled distribution is that of T = 1
            if kept.rest != NONE and max(1, row.num_samples if row.without else 1) > kept.certain:
                status = _OUTSIDE
            scaled = Kind(view, 1.0, rest, np.int64(work.at[first]))
            return FilterState(status, detail, raw, scaled, Kind(final_view, 0.0, -np.inf, first), True, certain)
    if np.isnan(left):
        status = _OUTSIDE
    if rest != -np.inf and temperature != 1:
        rest = np.nan
    likeliest = np.int64(0)
    if temperature == 0:
        while work.x[likeliest] != top:
            likeliest += 1
        first = first if is_filtered else likeliest
    scaled = Kind(view, temperature, rest, likeliest)
    return FilterState(status, detail, raw, scaled, Kind(final_view, temperature, left, first), is_filtered, certain)
