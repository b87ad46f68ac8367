"""Guidance in compiled code: the numbers of a row and of its guidance row become guided logits, in place.

Law and formulas: `sampling/guidance.py`. Both rows are in the thread's memory when it begins: x has the row, y becomes
the guidance row.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import RowErrorReason, Step
from samplerd_server.sampling.guidance import formulas
from samplerd_server.sampling.kernels.arithmetic import exp2, ln, log2
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY, block_maximum, load_block
from samplerd_server.sampling.kernels.compile import jit, rint64
from samplerd_server.sampling.kernels.measure import find_bad, is_bad
from samplerd_server.sampling.kernels.units import shift_of

__all__ = ["guide"]

_NOTHING, _GUIDANCE = int(RowErrorReason.NOTHING_TO_DRAW), int(Step.GUIDANCE)
_HALF = BLOCK // 2

_relative_mass, _normaliser, _guided = formulas(
    exp2=exp2, log2=log2, where=jit(lambda condition, chosen, other: chosen if condition else other), compiled=jit
)


@jit
def _largest(x, width):
    """Find the largest of x: float32[width], filled up to whole blocks."""
    top = TINY
    for low in range(0, width, BLOCK):
        top = max(top, block_maximum(x[low : low + BLOCK])[0])
    return top


@jit
def _normaliser_of(x, width, half):
    """Compute ln of the sum of exp(x) of x: float32[width], whose largest is finite; half is float64[BLOCK / 2]."""
    top = np.float64(_largest(x, width))
    shift = shift_of(width)
    unit = np.float64(np.int64(1) << shift)
    total = np.int64(0)
    for low in range(0, width, BLOCK):
        for i in range(_HALF):
            one = _relative_mass(np.float64(x[low + i]), top) * unit
            other = _relative_mass(np.float64(x[low + _HALF + i]), top) * unit
            half[i] = rint64(one) + rint64(other)
        length = _HALF
        while length > 1:  # whole numbers of at most 2^52 in all: exact
            length //= 2
            for i in range(length):
                half[i] += half[length + i]
        total += np.int64(half[0])
    return _normaliser(top, np.float64(total), np.float64(shift))


@jit
def _to_logits(x, width):
    for i in range((width + BLOCK - 1) // BLOCK * BLOCK):
        x[i] = np.float32(ln(np.float64(x[i])))


@jit
def guide(row, work, scratch, is_weights):
    """Replace x by the guided logits. Returns status and detail; of a bad guidance row the detail is -1 - the id."""
    width = np.int64(row.width)
    x, y = work.x, work.y
    fill = np.float32(0) if is_weights else TINY
    for low in range(0, width, BLOCK):
        block = y[low : low + BLOCK]
        load_block(row.guidance, row.guidance_dtype, low, min(BLOCK, width - low), fill, block)
        maximum, bits = block_maximum(block)
        if is_bad(maximum, bits, is_weights):
            reason, at = find_bad(block, low, is_weights)
            return reason, -1 - at
    if is_weights:
        _to_logits(x, width)
        _to_logits(y, width)
    if not _largest(x, width) > TINY:
        return 0, 0  # nothing is left of the row itself, which whoever looks at it next will say
    if not _largest(y, width) > TINY:
        return _NOTHING, _GUIDANCE
    own, other = _normaliser_of(x, width, scratch.half), _normaliser_of(y, width, scratch.half)
    scale = row.guidance_scale
    for i in range((width + BLOCK - 1) // BLOCK * BLOCK):
        x[i] = np.float32(_guided(np.float64(x[i]) - own, np.float64(y[i]) - other, scale))
    return (0, 0) if _largest(x, width) > TINY else (_NOTHING, _GUIDANCE)
