"""What shapes the distribution after all filters, in compiled code: adaptive-p, or skew. Law: `sampling.shapes`."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import Dtype, RowErrorReason
from samplerd_server.sampling import shapes
from samplerd_server.sampling.kernels.arithmetic import exp, ln, power
from samplerd_server.sampling.kernels.compile import carray, int64_at, jit
from samplerd_server.sampling.kernels.full import FilterState, prepare
from samplerd_server.sampling.kernels.gather import gather, largest_of_blocks
from samplerd_server.sampling.kernels.memory import View
from samplerd_server.sampling.kernels.outputs import Kind
from samplerd_server.sampling.kernels.radix_select import key_of
from samplerd_server.sampling.kernels.sorting import Sorting, sort
from samplerd_server.sampling.kernels.units import make_scale, mass_of, weigh

__all__ = ["is_shaped", "prepare_shaped"]

_F32 = int(Dtype.F32)
_OUTSIDE = int(RowErrorReason.OUTSIDE_CANDIDATES)
_LEAST = shapes.LEAST
_SMALLEST, _LOWEST = np.float32(1e-45), np.float32(-3.4028234663852886e38)
is_shaped, _moving_target, _adaptive_logit = (
    jit(own) for own in (shapes.is_shaped, shapes.moving_target, shapes.adaptive_logit)
)


@jit
def _adapt(row, work, count, total):
    target = _moving_target(row.adaptive_target, row.adaptive_weighted_sum, row.adaptive_total_weight)
    for i in range(count):
        work.y[i] = np.float32(_adaptive_logit(np.float64(work.mass[i]) / np.float64(total), target))


@jit
def _skew(row, work, count, scale, total):
    """Go through what is kept along the total order."""
    keys = carray(int64_at(np.uint64(work.key.ctypes.data)), count)
    for i in range(count):
        keys[i] = ((np.int64(0xFFFFFFFF) - np.int64(key_of(work.y[i]))) << 31) | np.int64(i)
        work.members[i] = i
    sort(Sorting(keys, work.members, work.mass, work.counts, work.bin_count), count)  # which overwrites the masses
    work.counts[:count] = 0
    k, before, added = exp(row.skew), 0.0, np.int64(0)
    for j in range(count):
        i = keys[j] & np.int64(0x7FFFFFFF)
        added += mass_of(scale, work.y[i])
        end = power(np.float64(added) / np.float64(total), k)
        work.y[i] = np.float32(ln(max(end - before, _LEAST)))
        before = end


@jit
def _shape(row, work, count, temperature, is_weights):
    """Give y: float32[count] new logits. Returns the position of the largest."""
    top = np.float32(-np.inf)
    for i in range(count):
        if is_weights:
            work.y[i] = np.float32(ln(np.float64(work.y[i])))
        top = max(top, work.y[i])
    scale = make_scale(row, top, temperature, False, top, np.int64(count), np.int64(count))
    total = weigh(scale, work.y, work.mass, count)
    if row.skew != 0:
        _skew(row, work, count, scale, total)
    else:
        _adapt(row, work, count, total)
    first = np.int64(0)
    for i in range(count):
        first = i if work.y[i] > work.y[first] else first
    return first


@jit
def prepare_shaped(row, work, scratch):
    """Take a row through steps 0 to 7, and shape what is drawn from. Returns `FilterState`."""
    kept = prepare(row, work, scratch)
    final = kept.final
    if kept.status != 0 or final.temperature == 0 or not is_shaped(row):
        return kept
    status, count = kept.status, np.int64(final.numbers.width)
    if final.rest != -np.inf:
        status = _OUTSIDE
    if not kept.is_filtered:
        width = np.int64(row.width)
        largest_of_blocks(work, width, scratch)
        count = gather(work, width, _SMALLEST if final.numbers.is_weights else _LOWEST, scratch)
    first = _shape(row, work, count, final.temperature, final.numbers.is_weights)
    view = View(np.uint64(work.y.ctypes.data), np.int64(_F32), count, False)
    return FilterState(status, kept.detail, kept.raw, kept.scaled, Kind(view, 1.0, -np.inf, first), True, kept.certain)
