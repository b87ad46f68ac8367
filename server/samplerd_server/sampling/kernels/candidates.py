"""Candidates by their ids, in compiled code: sorting them, and finding the position of a token among them."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import carray, inlined, int64_at, jit, load_i32
from samplerd_server.sampling.kernels.sorting import Sorting, sort

__all__ = ["find_token", "forget_places", "place_candidates", "sort_candidates"]


@jit
def _order(row, work):
    """Write the places of the candidates of a row into at, in order of their ids."""
    width = np.int64(row.width)
    keys = carray(int64_at(np.uint64(work.key.ctypes.data)), width)
    more_keys = carray(int64_at(np.uint64(work.mass.ctypes.data)), width)
    order = work.at
    for i in range(width):
        keys[i] = np.int64(load_i32(row.candidate_ids, i))
        order[i] = i
    sort(Sorting(keys, order, more_keys, work.members, work.bin_count), width)


@jit
def sort_candidates(row, work):
    """Fill tokens with the ids of a row's candidates, ascending, and x and raw with their numbers, which x holds."""
    is_ascending = True
    for i in range(row.width):
        work.tokens[i] = load_i32(row.candidate_ids, i)
        work.raw[i] = work.x[i]
        is_ascending &= i == 0 or work.tokens[i] > work.tokens[i - 1]
    if is_ascending:  # as the decoder leaves them
        return
    _order(row, work)
    order = work.at
    for i in range(row.width):
        work.tokens[i] = load_i32(row.candidate_ids, order[i])
        work.raw[i] = work.x[order[i]]
    for i in range(row.width):  # an assignment of slices would compile its error message, too
        work.x[i] = work.raw[i]


@jit
def place_candidates(row, work):
    """Let `find_token` look tokens up in an array, if so many will be looked up that filling it takes less time."""
    if row.candidate_ids and 4 * (np.int64(row.bias_ids_len) + np.int64(row.history_len)) > row.width:
        for i in range(row.width):
            work.places[work.tokens[i]] = i + 1
        work.has_places[0] = 1


@jit
def forget_places(row, work):
    """Undo `place_candidates`."""
    if work.has_places[0]:
        for i in range(row.width):
            work.places[work.tokens[i]] = 0
        work.has_places[0] = 0


@inlined
def find_token(row, work, token):
    """Find the position of a token in the row, -1 if it is a candidate that was not sent."""
    if row.candidate_ids == 0:
        return np.int64(token)
    if work.has_places[0]:
        return np.int64(work.places[token]) - 1
    low, high = 0, np.int64(row.width)
    while low < high:
        middle = (low + high) >> 1
        if work.tokens[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < row.width and work.tokens[low] == token else -1
