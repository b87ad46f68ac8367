"""The DRY penalty in compiled code: lowers the logits of tokens that would continue a repetition of history.

Law: `sampling.dry`. What a token may lose is noted in `work.counts` until all places of the history have been seen.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.adjust import find_token, saturate, touch_rest
from samplerd_server.sampling.kernels.breakers import tokens_after_breaker
from samplerd_server.sampling.kernels.compile import jit, load_i32
from samplerd_server.sampling.kernels.repeats import measure_repeats, read_backwards

__all__ = ["dry"]

_LARGEST = 3.4028234663852886e38
_BREAKER = np.int32(-1)


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
def _mark_breakers(row, counts, mark):
    """Write a mark for each breaker of one token."""
    for i in range(row.dry_sequence_breakers_len):
        counts[load_i32(row.dry_sequence_breakers, i)] = mark
    begin = 0
    for i in range(row.dry_breaker_sequences_ends_len):
        end = load_i32(row.dry_breaker_sequences_ends, i)
        if end == begin + 1:
            counts[load_i32(row.dry_breaker_sequences_ids, begin)] = mark
        begin = end


@jit
def _reach(row, counts, backwards):
    """Find how many tokens a repeat may have: those after the breaker that begins last."""
    reach = np.int64(0)
    while reach < len(backwards) and counts[backwards[reach]] != _BREAKER:
        reach += 1
    if row.dry_breaker_sequences_ends_len:
        after, at = tokens_after_breaker(row, backwards)
        if after >= 0 and at <= reach:
            return after
    return reach


@jit
def dry(row, work, rest):
    """Lower tokens that would continue a repetition. Returns what is known of the rest; see adjust.py."""
    length = np.int64(row.history_len)
    if row.dry_range:
        length = min(length, np.int64(row.dry_range))
    backwards = read_backwards(row, length)
    z = measure_repeats(backwards)
    counts = work.counts
    _mark_breakers(row, counts, _BREAKER)
    reach = _reach(row, counts, backwards)
    least = np.int64(0) if row.dry_allow_no_repeat else np.int64(row.dry_allowed_length)
    for i in range(1, length):
        repeat = min(np.int64(z[i]), reach)
        token = backwards[i - 1]
        if repeat >= least and counts[token] != _BREAKER:
            counts[token] = max(np.int64(counts[token]), repeat + 1)
    _mark_breakers(row, counts, np.int32(0))
    for i in range(1, length):
        token = backwards[i - 1]
        if counts[token] == 0:
            continue
        repeat = np.int64(counts[token]) - 1
        counts[token] = 0
        loss = min(row.dry_multiplier * _power(row.dry_base, repeat - least), _LARGEST)
        at = find_token(row, work, token)
        if at >= 0:
            work.x[at] = saturate(np.float64(work.x[at]) - loss)
        else:
            rest = touch_rest(rest, -loss)
    return rest
