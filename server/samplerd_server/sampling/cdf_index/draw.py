"""Drawing from a CDF index: build.py says why it is the same draw as from the row, to the bit.

Draws take each step together, 128 at a time, so that their reads of memory overlap and their arithmetic fills vectors:
uniforms; groups, by the guide; the sixteen numbers of each group, side by side with those of the other draws; masses;
places.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cdf_index.layout import GROUP
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY
from samplerd_server.sampling.kernels.compile import (
    carray,
    float32_at,
    float64_at,
    int32_at,
    jit,
    kernel,
    load_bf16,
    load_f16,
    load_f32,
)
from samplerd_server.sampling.kernels.exp2 import LN_2, exp2, exp2_32, log2

__all__ = ["draw_indexed"]


_F16, _BF16 = int(Dtype.F16), int(Dtype.BF16)
_K = 128
"""Number of draws that take each step together: their groups of sixteen numbers fill 8 KiB."""
_GROUPS = BLOCK // GROUP
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_BELOW_1 = 1.0 - 2.0**-53


class _Together(NamedTuple):
    """The state of the draws that take their steps together."""

    uniforms: Any
    targets: Any
    groups: Any
    x: Any
    """float32[16 K]: number i of draw k's group at i K + k; then its mass."""
    maxima: Any
    scales: Any
    before: Any
    inside: Any
    passed: Any


@jit
def _uniforms(seed, first, row, out):
    """Compute out[k] of draw `first` + k: philox.uniform, laid out so that it fills vectors."""
    for k in range(_K):
        draw = first + np.uint64(k)
        c0, c1, c2, c3 = draw & _LOW, draw >> _32, np.uint64(row), np.uint64(0)
        k0, k1 = seed & _LOW, seed >> _32
        for _ in range(10):
            p0 = _M0 * (c0 & _LOW)
            p1 = _M1 * (c2 & _LOW)
            c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
            k0 = (k0 + _W0) & _LOW
            k1 = (k1 + _W1) & _LOW
        whole = ((c0 >> np.uint64(5)) << np.uint64(26)) | (c1 >> np.uint64(6))
        u = (np.float64(np.int64(whole)) + 0.5) * 2.0**-53
        out[k] = u if u < 1.0 else _BELOW_1


@jit
def _search(ends, low, high, target):
    """Find the first group in [low, high] whose sum exceeds the target; the last one's does."""
    while low < high:
        middle = (low + high) >> 1
        if ends[middle] > target:
            high = middle
        else:
            low = middle + 1
    return low


@jit
def _find_groups(ends, guide, total, own):
    """Find the group of each draw; any group where the target is the total itself."""
    size = np.float64(len(guide) - 1)
    for k in range(_K):
        own.groups[k] = guide[np.int64(own.uniforms[k] * size)]
        target = own.uniforms[k] * total
        own.targets[k] = target if target < total else -1.0
    for k in range(_K):
        group, target = own.groups[k], own.targets[k]
        # Two steps without a branch: enough, nearly always.
        group += not ends[group] > target
        group += not ends[group] > target
        if not ends[group] > target:
            group = _search(ends, group + 1, np.int64(guide[np.int64(own.uniforms[k] * size) + 1]), target)
        own.groups[k] = group


@jit
def _load_part(index, k, own):
    """Read the last group of a row, filled up with numbers of no weight."""
    low = own.groups[k] * GROUP
    for i in range(GROUP):
        own.x[i * _K + k] = np.float32(0) if index.is_weights else TINY
    for i in range(index.width - low):
        if index.dtype == _F16:
            own.x[i * _K + k] = load_f16(index.numbers, low + i)
        elif index.dtype == _BF16:
            own.x[i * _K + k] = load_bf16(index.numbers, low + i)
        else:
            own.x[i * _K + k] = load_f32(index.numbers, low + i)


@jit
def _load_groups(index, own):
    """Read the sixteen numbers of each draw's group."""
    address, x, groups = index.numbers, own.x, own.groups
    whole = index.width // GROUP
    for k in range(_K):
        low = groups[k] * GROUP
        if groups[k] == whole:
            _load_part(index, k, own)
        elif index.dtype == _F16:
            for i in range(GROUP):
                x[i * _K + k] = load_f16(address, low + i)
        elif index.dtype == _BF16:
            for i in range(GROUP):
                x[i * _K + k] = load_bf16(address, low + i)
        else:
            for i in range(GROUP):
                x[i * _K + k] = load_f32(address, low + i)


@jit
def _weigh_groups(index, own):
    """Turn the numbers into masses by the arithmetic of kernels/blocks.py."""
    x, maxima = own.x, own.maxima
    if index.weigh == 0:
        return
    if index.is_weights:
        power = index.weigh * LN_2
        for i in range(GROUP):
            for k in range(_K):
                x[i * _K + k] = np.float32(exp2(log2(np.float64(x[i * _K + k]) / np.float64(maxima[k])) * power))
        return
    c = np.float32(min(index.weigh, 3e38))
    for i in range(GROUP):
        for k in range(_K):
            x[i * _K + k] = exp2_32((x[i * _K + k] - maxima[k]) * c)


@jit
def _count_passed(own):
    """Count for each draw the places of its group whose cumulative sum does not exceed its target."""
    x, inside, passed = own.x, own.inside, own.passed
    before, scales, targets = own.before, own.scales, own.targets
    for k in range(_K):
        inside[k] = 0.0
        passed[k] = 0
    for i in range(GROUP):
        for k in range(_K):
            inside[k] += np.float64(x[i * _K + k])
            passed[k] += np.int64(1) if before[k] + inside[k] * scales[k] <= targets[k] else np.int64(0)


@jit
def _last_positive(x, k):
    """Find the last place of a group that has mass."""
    for i in range(GROUP - 1, -1, -1):
        if x[i * _K + k] > 0:
            return i
    return 0


@jit
def _draw(index, seed, first, row, samples, own):
    """Draw from one row: samples, int32, of draw index `first` on."""
    groups, blocks = (index.width + GROUP - 1) // GROUP, (index.width + BLOCK - 1) // BLOCK
    ends, guide = carray(float64_at(index.ends), groups), carray(int32_at(index.guide), index.guide_size + 1)
    maxima, scales = carray(float32_at(index.maxima), blocks), carray(float64_at(index.scales), blocks)
    draws = np.int64(len(samples))
    for begin in range(0, draws, _K):
        _uniforms(seed, first + np.uint64(begin), row, own.uniforms)
        _find_groups(ends, guide, index.total, own)
        for k in range(_K):
            group = own.groups[k]
            own.maxima[k] = maxima[group // _GROUPS]
            own.scales[k] = scales[group // _GROUPS]
            own.before[k] = ends[group - 1] if group else 0.0
        _load_groups(index, own)
        _weigh_groups(index, own)
        _count_passed(own)
        count = draws - begin if draws - begin < _K else _K
        for k in range(count):
            place = own.passed[k] if own.passed[k] < GROUP else _last_positive(own.x, k)
            place += own.groups[k] * GROUP
            samples[begin + k] = place if own.targets[k] >= 0 else index.beyond
    if index.ids:
        ids = carray(int32_at(index.ids), index.width)
        for d in range(draws):
            samples[d] = ids[samples[d]]


@kernel
def draw_indexed(records, seeds, rows, first, draws, samples):
    """Draw with replacement from the rows of each of records: CDF_INDEX[B].

    seeds: uint64[B] and rows: uint32[B], the key and the row index of each; first: uint64, index of the first draw;
    samples: int32[B * draws], filled row by row.
    """
    own = _Together(
        np.empty(_K, np.float64),
        np.empty(_K, np.float64),
        np.empty(_K, np.int64),
        np.empty(GROUP * _K, np.float32),
        np.empty(_K, np.float32),
        np.empty(_K, np.float64),
        np.empty(_K, np.float64),
        np.empty(_K, np.float64),
        np.empty(_K, np.int64),
    )
    for i in range(len(records)):
        _draw(records[i], seeds[i], np.uint64(first), rows[i], samples[i * draws : (i + 1) * draws], own)
