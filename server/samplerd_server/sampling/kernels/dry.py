"""The DRY penalty in compiled code: lowers the logits of tokens that would continue a repetition of history.

Law: with n the longest repeat of the end of the history that a token would make one longer, n >= allowed_length, its
logit loses multiplier x base^(n - allowed_length). No repeat reaches past a sequence breaker, and no breaker loses.
Source: p-e-w's DRY for text-generation-webui (2024); the Z array is Gusfield's, of the reversed history.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.adjust import find_token, saturate, touch_rest
from samplerd_server.sampling.kernels.compile import jit, load_i32

__all__ = ["dry"]

_LARGEST = 3.4028234663852886e38


@jit
def _is_breaker(row, token):
    found = False
    for i in range(row.dry_sequence_breakers_len):  # a handful
        found |= load_i32(row.dry_sequence_breakers, i) == token
    return found


@jit
def _repeats(backwards, z):
    """Fill z with the length of the longest common prefix of `backwards` and itself from each place on."""
    length = len(backwards)
    left, right = 0, 0
    z[0] = 0
    for i in range(1, length):
        n = min(right - i, z[i - left]) if i < right else 0
        while i + n < length and backwards[n] == backwards[i + n]:
            n += 1
        if i + n > right:
            left, right = i, i + n
        z[i] = n


@jit
def _power(base, exponent):
    """base^exponent by squaring, exponent >= 0."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@jit
def dry(row, work, rest):
    """Lower tokens that would continue a repetition. Returns what is known of the rest; see adjust.py."""
    length = np.int64(row.history_len)
    if row.dry_range:
        length = min(length, np.int64(row.dry_range))
    backwards = np.empty(length, np.int32)
    z = np.empty(length, np.int32)
    reach = length
    for i in range(length):
        backwards[i] = load_i32(row.history, row.history_len - 1 - i)
        if reach == length and _is_breaker(row, backwards[i]):
            reach = i
    _repeats(backwards, z)
    least = np.int64(row.dry_allowed_length)
    for i in range(1, length):
        repeat = min(np.int64(z[i]), reach)
        if repeat >= least:
            token = backwards[i - 1]
            work.counts[token] = max(work.counts[token], repeat + 1)
    for i in range(1, length):
        token = backwards[i - 1]
        if work.counts[token] == 0:
            continue
        repeat = work.counts[token] - 1
        work.counts[token] = 0
        if _is_breaker(row, token):
            continue
        loss = min(row.dry_multiplier * _power(row.dry_base, repeat - least), _LARGEST)
        at = find_token(row, work, token)
        if at >= 0:
            work.x[at] = saturate(np.float64(work.x[at]) - loss)
        else:
            rest = touch_rest(rest, -loss)
    return rest
