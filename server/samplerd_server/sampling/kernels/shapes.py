"""What shapes the distribution after all filters, in compiled code: adaptive-p, or skew. Law: `sampling.shapes`."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import Dtype, RowErrorReason
from samplerd_server.sampling import shapes
from samplerd_server.sampling.kernels.arithmetic import exp, ln, power
from samplerd_server.sampling.kernels.compile import (
    as_bits,
    as_bits64,
    as_float,
    as_float64,
    carray,
    int64_at,
    jit,
    shared,
    uint64_at,
)
from samplerd_server.sampling.kernels.filters import largest_kept
from samplerd_server.sampling.kernels.full import FilterState, prepare
from samplerd_server.sampling.kernels.gather import gather, largest_of_blocks
from samplerd_server.sampling.kernels.memory import View
from samplerd_server.sampling.kernels.outputs import Kind
from samplerd_server.sampling.kernels.radix_select import key_of, number_of
from samplerd_server.sampling.kernels.references import dereference
from samplerd_server.sampling.kernels.sorting import sort_by_high
from samplerd_server.sampling.kernels.units import make_scale, weigh

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
    y, mass = work.y, work.mass
    for i in range(count):
        y[i] = np.float32(_adaptive_logit(np.float64(mass[i]) / np.float64(total), target))


@jit
def _sort(work, count):
    """Sort what is kept along the total order, by number and place in one. Returns where it lies, and room for masses.

    Addresses of uint64[count] and int64[count], the memory of key and of mass or the other way round.
    """
    y, keys = work.y, work.key
    for i in range(count):
        keys[i] = ((np.uint64(0xFFFFFFFF) - key_of(y[i])) << np.uint64(32)) | np.uint64(i)
    address, other = np.uint64(work.key.ctypes.data), np.uint64(work.mass.ctypes.data)
    more = carray(uint64_at(other), count)
    if sort_by_high(keys, more, work.spare, count):
        return other, address
    return address, other


@jit
def _skew(row, work, count, scale):
    """Go through what is kept along the total order, a step at a time, so that each loop fills vectors."""
    address, other = _sort(work, count)
    order, mass = carray(uint64_at(address), count), carray(int64_at(other), count)
    y, members = work.y, work.members
    for j in range(count):
        y[j] = number_of(np.uint64(0xFFFFFFFF) - (order[j] >> np.uint64(32)))
    total = np.float64(weigh(scale, y, mass, count))
    k, added = exp(row.skew), np.int64(0)
    for j in range(count):
        added += mass[j]
        mass[j] = added
    for j in range(count):
        mass[j] = as_bits64(power(np.float64(mass[j]) / total, k))
    members[0] = as_bits(np.float32(ln(max(as_float64(mass[0]), _LEAST))))
    for j in range(1, count):
        members[j] = as_bits(np.float32(ln(max(as_float64(mass[j]) - as_float64(mass[j - 1]), _LEAST))))
    for j in range(count):
        y[order[j] & np.uint64(0xFFFFFFFF)] = as_float(members[j])


@jit
def _shape(row, work, count, temperature, is_weights):
    """Give y: float32[count] new logits."""
    y = work.y
    if is_weights:
        for i in range(count):
            y[i] = np.float32(ln(np.float64(y[i])))
    top = largest_kept(work, count)
    scale = make_scale(row, top, temperature, False, top, np.int64(count), np.int64(count))
    if row.skew != 0:
        _skew(row, work, count, scale)
    else:
        _adapt(row, work, count, weigh(scale, y, work.mass, count))


@shared
def prepare_shaped(row, work_at, scratch_at):
    """Take a row through steps 0 to 7, and shape what is drawn from. Returns `FilterState`.

    work_at, scratch_at: references to the thread's memory.
    """
    work, scratch = dereference(work_at), dereference(scratch_at)
    kept = prepare(row, work, scratch, work_at, scratch_at)
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
    _shape(row, work, count, final.temperature, final.numbers.is_weights)
    view = View(np.uint64(work.y.ctypes.data), np.int64(_F32), count, False)
    return FilterState(
        status, kept.detail, kept.raw, kept.scaled, Kind(view, 1.0, -np.inf, np.int64(0)), True, kept.certain
    )
