"""The order of candidates by their ids, in compiled code."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import carray, int64_at, jit, load_i32
from samplerd_server.sampling.kernels.sorting import Sorting, sort

__all__ = ["order_of_candidates"]


@jit
def order_of_candidates(row, work):
    """Find the places of the candidates of a row, in order of their ids: int32[width], in memory of `work`."""
    width = np.int64(row.width)
    keys = carray(int64_at(np.uint64(work.key.ctypes.data)), width)
    more_keys = carray(int64_at(np.uint64(work.mass.ctypes.data)), width)
    order = work.at
    for i in range(width):
        keys[i] = np.int64(load_i32(row.candidate_ids, i))
        order[i] = i
    sort(Sorting(keys, order, more_keys, work.members, work.bin_count), width)
    return order
