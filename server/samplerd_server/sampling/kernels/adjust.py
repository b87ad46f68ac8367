"""Steps 2 to 4 in compiled code: mask, bias and penalties change a row's numbers in place, before the temperature.

Law: docs/sampling.md, steps 2 to 4. A finite logit stays within float32; only the mask and a bias of -inf forbid. With
candidates, an adjustment of tokens that were not sent leaves the rest's mass unknown (NaN) if it can only lower them,
and else nothing to say (`RAISED`).
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import jit, load_f32, load_i32
from samplerd_server.sampling.kernels.filter_table import has_token_penalties

__all__ = ["RAISED", "add_bias", "find_token", "has_penalties", "mask_tokens", "penalise", "saturate", "touch_rest"]

_LARGEST = 3.4028234663852886e38
"""The largest float32."""
RAISED = np.inf
"""Stands for the rest's mass where a category that was not sent may have become likelier."""


@jit
def find_token(row, work, token):
    """Find the position of a token in the row, -1 if it is a candidate that was not sent."""
    if row.candidate_ids == 0:
        return np.int64(token)
    low, high = 0, np.int64(row.width)
    while low < high:
        middle = (low + high) >> 1
        if work.tokens[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < row.width and work.tokens[low] == token else -1


@jit
def saturate(logit):
    """Keep a finite logit, float64, within float32; -inf stays."""
    return logit if logit == -np.inf else min(max(logit, -_LARGEST), _LARGEST)


@jit
def touch_rest(rest, change):
    """Say what is known of the rest after the logit of a token that was not sent changed by `change`."""
    if rest == RAISED or not (rest > -np.inf or np.isnan(rest)) or change == 0:
        return rest
    return RAISED if change > 0 else np.nan


@jit
def _is_in_bitmask(row, token):
    word = np.int64(token) >> 5
    return (
        word < row.token_bitmask_len
        and ((load_i32(row.token_bitmask, word) >> np.int32(token & 31)) & np.int32(1)) != 0
    )


@jit
def _mask_dense(row, work, never):
    if row.has_token_bitmask:
        for low in range(0, row.width, 32):
            word = load_i32(row.token_bitmask, low >> 5) if (low >> 5) < row.token_bitmask_len else np.int32(0)
            if word == -1:
                continue
            for j in range(min(32, row.width - low)):
                if not (word >> np.int32(j)) & np.int32(1):
                    work.x[low + j] = never
        return
    for i in range(row.allowed_tokens_len):
        token = load_i32(row.allowed_tokens, i)
        work.y[token] = work.x[token]
    work.x[: row.width] = never
    for i in range(row.allowed_tokens_len):
        token = load_i32(row.allowed_tokens, i)
        work.x[token] = work.y[token]


@jit
def mask_tokens(row, work, never, rest):
    """Step 2: only allowed tokens keep their numbers. Returns what is known of the rest."""
    if row.candidate_ids == 0:
        _mask_dense(row, work, never)
        return rest
    allowed = 0
    if row.has_allowed_tokens:
        for i in range(row.allowed_tokens_len):
            token = load_i32(row.allowed_tokens, i)
            allowed += work.counts[token] == 0
            work.counts[token] = 1
    else:
        for token in range(min(row.vocab_size, row.token_bitmask_len * 32)):
            allowed += _is_in_bitmask(row, token)
    for i in range(row.width):
        token = work.tokens[i]
        if work.counts[token] if row.has_allowed_tokens else _is_in_bitmask(row, token):
            allowed -= 1
        else:
            work.x[i] = never
    if row.has_allowed_tokens:
        for i in range(row.allowed_tokens_len):
            work.counts[load_i32(row.allowed_tokens, i)] = 0
    if allowed == 0:
        return -np.inf
    return rest if allowed == row.vocab_size - row.width else touch_rest(rest, -1.0)


@jit
def add_bias(row, work, rest):
    """Step 3: the amounts of logit_bias are added. Returns what is known of the rest."""
    for i in range(row.bias_ids_len):
        token, amount = load_i32(row.bias_ids, i), np.float64(load_f32(row.bias_values, i))
        at = find_token(row, work, token)
        if at >= 0:
            work.x[at] = saturate(np.float64(work.x[at]) + amount)
        else:
            rest = touch_rest(rest, amount)
    return rest


@jit
def has_penalties(row):
    """Tell whether history changes anything."""
    return row.history_len > 0 and (has_token_penalties(row) or row.dry_multiplier > 0)


@jit
def _count(row, work):
    """Count the tokens of history into counts, and list each once in members. Returns how many are listed."""
    counts, distinct, history = work.counts, work.members, row.history
    listed = 0
    for i in range(row.history_len):
        token = np.uint32(load_i32(history, i))
        count = counts[token]
        distinct[listed] = token  # always written and kept if new: whether it is cannot be predicted
        listed += count == 0
        counts[token] = count + np.int32(1)
    return listed


@jit
def _penalised(number, count, repetition, frequency, presence):
    """Apply the penalties to one number; one that is not finite stays as it is.

    Both factors are applied, one of them 1, since a branch on the sign would be a coin toss.
    """
    logit = np.float64(number)
    is_divided = logit > 0
    logit = logit * (1.0 if is_divided else repetition) / (repetition if is_divided else 1.0)
    logit = min(max(logit, -_LARGEST), _LARGEST) - count * frequency - presence
    return np.float32(min(max(logit, -_LARGEST), _LARGEST)) if np.abs(number) < np.inf else number


@jit
def penalise(row, work, rest):
    """Step 4: repetition, frequency and presence penalties of each distinct token. Returns as `add_bias` does."""
    repetition, frequency, presence = row.repetition_penalty, row.frequency_penalty, row.presence_penalty
    x, counts, distinct = work.x, work.counts, work.members
    listed = _count(row, work)
    if row.candidate_ids == 0:
        times, numbers = work.at, work.y  # three loops, so that the one with the arithmetic vectorises
        for i in range(listed):
            token = np.uint32(distinct[i])
            times[i] = counts[token]
            counts[token] = 0
            numbers[i] = x[token]
        for i in range(listed):
            numbers[i] = _penalised(numbers[i], np.float64(times[i]), repetition, frequency, presence)
        for i in range(listed):
            x[np.uint32(distinct[i])] = numbers[i]
        return rest
    for i in range(listed):
        token = distinct[i]
        count = np.float64(counts[token])
        counts[token] = 0
        at = find_token(row, work, token)
        if at < 0:
            rest = touch_rest(touch_rest(rest, -(count * frequency + presence)), 1.0 - repetition)
        else:
            x[at] = _penalised(x[at], count, repetition, frequency, presence)
    return rest
