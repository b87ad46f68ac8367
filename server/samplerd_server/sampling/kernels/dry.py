"""The DRY penalty in compiled code: lowers the logits of tokens that would continue a repetition of history.

Law: `sampling.dry`. What a token may lose is noted in `work.counts` until all places of the history have been seen.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.adjust import saturate, touch_rest
from samplerd_server.sampling.kernels.breakers import tokens_after_breaker
from samplerd_server.sampling.kernels.candidates import find_token
from samplerd_server.sampling.kernels.compile import allocating, jit, load_i32
from samplerd_server.sampling.kernels.repeats import backwards, measure_repeats
from samplerd_server.sampling.kernels.shared_lists import DRY, recall, remember

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
def _find_reach(row, work, length):
    """Find how many tokens a repeat may have: those after the last breaker. Marks breakers of one token in counts."""
    if row.dry_sequence_breakers_len == 0 and row.dry_breaker_sequences_ends_len == 0:
        return length
    after, at = np.int64(-1), length
    if row.dry_breaker_sequences_ends_len:
        after, at = tokens_after_breaker(row, work, length)
    _mark_breakers(row, work.counts, _BREAKER)
    reach = np.int64(0)
    while reach < length and work.counts[backwards(row, reach)] != _BREAKER:
        reach += 1
    return after if after >= 0 and at <= reach else reach


@jit
def _list_repeats(row, work, z, reach, least):
    """Write 1 + the longest repeat of each token into counts, and list the tokens in members. Returns how many."""
    counts, listed = work.counts, np.int64(0)
    for i in range(1, len(z)):
        repeat = min(np.int64(z[i]), reach)
        if repeat < least:
            continue
        token = backwards(row, i - 1)
        longest = np.int64(counts[token])
        if longest == _BREAKER:
            continue
        work.members[listed] = token
        listed += longest == 0
        counts[token] = max(longest, repeat + 1)
    return listed


@allocating
def dry(row, work, rest):
    """Lower tokens that would continue a repetition. Returns what is known of the rest; see adjust.py."""
    length = np.int64(row.history_len)
    if row.dry_range:
        length = min(length, np.int64(row.dry_range))
    least = np.int64(0) if row.dry_allow_no_repeat else np.int64(row.dry_allowed_length)
    key = (
        np.uint64(row.history),
        np.uint64(row.history_len),
        np.uint64(length),
        np.uint64(least),
        np.uint64(row.dry_sequence_breakers),
        np.uint64(row.dry_breaker_sequences_ids),
        np.uint64(row.dry_breaker_sequences_ends),
    )
    listed = known = recall(work, DRY, key)
    if known < 0:
        z = measure_repeats(row, length)
        reach = _find_reach(row, work, length)
        listed = _list_repeats(row, work, z, reach, least)
        _mark_breakers(row, work.counts, np.int32(0))
        remember(work, DRY, known, listed, length)
    for i in range(listed):
        token = work.members[i]
        repeat = np.int64(work.counts[token]) - 1
        work.counts[token] = 0
        loss = min(row.dry_multiplier * _power(row.dry_base, repeat - least), _LARGEST)
        at = find_token(row, work, token)
        if at >= 0:
            work.x[at] = saturate(np.float64(work.x[at]) - loss)
        else:
            rest = touch_rest(rest, -loss)
    return rest
