"""How long the repeats are that the end of a history stands in, in compiled code: for DRY and no_repeat_ngram_size."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import allocating, jit, load_i32

__all__ = ["backwards", "measure_repeats"]


@jit
def backwards(row, at):
    """Give the token of history with `at` tokens after it."""
    return load_i32(row.history, np.int64(row.history_len) - 1 - at)


@allocating
def measure_repeats(row, length):
    """Find how many tokens before and at each place are those that history ends with: int32[length].

    Places are counted from the end, and none but the last `length` tokens are looked at; of the last place it is 0.
    Gusfield's Z array of the reversed history, in linear time.
    """
    z = np.empty(length, np.int32)
    left, right = np.int64(0), np.int64(0)
    z[0] = 0
    for i in range(np.int64(1), length):
        n = np.int64(0)
        if i < right:
            n = np.int64(z[i - left])
            if n < right - i:
                z[i] = n
                continue
            n = right - i
        while i + n < length and backwards(row, n) == backwards(row, i + n):
            n += 1
        z[i] = n
        if i + n > right:
            left, right = i, i + n
    return z
