"""Positions in a row, and in what the filters have kept of it."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import LogprobKind
from samplerd_server.sampling.kernels.compile import inlined

__all__ = ["from_source", "to_source"]

_PROCESSED = int(LogprobKind.PROCESSED) - 1


@inlined
def to_source(kept, k, work, position):
    """Translate a position in a distribution to one in the row."""
    return np.int64(work.at[position]) if k == _PROCESSED and kept.is_filtered else np.int64(position)


@inlined
def from_source(kept, k, work, at):
    """Translate a position in the row to one in a distribution, -1 if the filters dropped it."""
    if k != _PROCESSED or not kept.is_filtered:
        return at
    low, high = 0, kept.final.numbers.width
    while low < high:
        middle = (low + high) >> 1
        if work.at[middle] < at:
            low = middle + 1
        else:
            high = middle
    return low if low < kept.final.numbers.width and work.at[low] == at else -1
