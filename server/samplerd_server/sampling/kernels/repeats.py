"""How long the repeats are that the end of a history stands in, in compiled code: for DRY and no_repeat_ngram_size."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import jit, load_i32

__all__ = ["measure_repeats", "read_backwards"]


@jit
def read_backwards(row, length):
    """Copy the last `length` tokens of history, newest first: int32[length]."""
    backwards = np.empty(length, np.int32)
    for i in range(length):
        backwards[i] = load_i32(row.history, row.history_len - 1 - i)
    return backwards


@jit
def measure_repeats(backwards):
    """Find the length of the longest common prefix of `backwards` and itself from each place on: int32 of its length.

    Gusfield's Z array, in linear time; of the first place it is 0.
    """
    length = len(backwards)
    z = np.zeros(length, np.int32)
    left, right = 0, 0
    for i in range(1, length):
        n = np.int64(0)
        if i < right:
            n = np.int64(min(right - i, z[i - left]))
        while i + n < length and backwards[n] == backwards[i + n]:
            n += 1
        if i + n > right:
            left, right = i, i + n
        z[i] = n
    return z
