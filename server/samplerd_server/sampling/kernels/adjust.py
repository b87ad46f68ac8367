"""Steps 2 to 4 in compiled code: mask, bias and penalties change a row's numbers in place, before the temperature.

Law: docs/sampling.md, steps 2 to 4. A finite logit stays within float32; only step 2 and a bias of -inf forbid. With
candidates, an adjustment of tokens that were not sent leaves the rest's mass unknown (NaN) if it can only lower them,
and else nothing to say (`RAISED`).
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.bans import first_token, has_bans, list_bans
from samplerd_server.sampling.kernels.candidates import find_token
from samplerd_server.sampling.kernels.compile import inlined, jit, load_f32, load_i32
from samplerd_server.sampling.kernels.filter_table import has_token_penalties
from samplerd_server.sampling.kernels.shared_lists import PENALTIES, recall, remember

__all__ = [
    "RAISED",
    "add_bias",
    "clamp",
    "has_mask",
    "has_penalties",
    "mask_tokens",
    "penalise",
    "saturate",
    "touch_rest",
]

_LARGEST = 3.4028234663852886e38
"""The largest float32."""
RAISED = np.inf
"""Stands for the rest's mass where a category that was not sent may have become likelier."""


@jit
def clamp(logit):
    """Bring what became of a finite logit, float64, into float32."""
    return min(max(logit, -_LARGEST), _LARGEST)


@jit
def saturate(logit):
    """Keep a finite logit, float64, within float32; -inf stays."""
    return logit if logit == -np.inf else clamp(logit)


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
def has_mask(row):
    """Tell whether step 2 may forbid anything."""
    return row.has_token_bitmask or row.has_allowed_tokens or has_bans(row)


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
    if not row.has_allowed_tokens:
        return
    for i in range(row.allowed_tokens_len):
        token = load_i32(row.allowed_tokens, i)
        work.y[token] = work.x[token]
    work.x[: row.width] = never
    for i in range(row.allowed_tokens_len):
        token = load_i32(row.allowed_tokens, i)
        work.x[token] = work.y[token]


@jit
def _count_allowed(row, work):
    """Count the tokens that the mask allows; those of a list are marked in counts."""
    if row.has_allowed_tokens:
        allowed = np.int64(0)
        for i in range(row.allowed_tokens_len):
            token = load_i32(row.allowed_tokens, i)
            allowed += work.counts[token] == 0
            work.counts[token] = 1
        return allowed
    if not row.has_token_bitmask:
        return np.int64(row.vocab_size)
    allowed = np.int64(0)
    for token in range(min(row.vocab_size, row.token_bitmask_len * 32)):
        allowed += _is_in_bitmask(row, token)
    return allowed


@inlined
def _is_allowed(row, work, token):
    """Tell whether the mask allows a token, once `_count_allowed` has marked those of a list."""
    if row.has_allowed_tokens:
        return work.counts[token] != 0
    return not row.has_token_bitmask or _is_in_bitmask(row, token)


@jit
def mask_tokens(row, work, never, rest):
    """Step 2: only tokens that are allowed and not forbidden keep their numbers. Returns what is known of the rest."""
    forbidden = list_bans(row, work) if has_bans(row) else np.int64(0)
    if row.candidate_ids == 0:
        _mask_dense(row, work, never)
        for i in range(forbidden):
            work.x[work.members[i]] = never
        return rest
    unsent = _count_allowed(row, work)
    for i in range(row.width):
        if _is_allowed(row, work, work.tokens[i]):
            unsent -= 1
        else:
            work.x[i] = never
    for i in range(forbidden):
        token = work.members[i]
        at = find_token(row, work, token)
        if at >= 0:
            work.x[at] = never
        elif _is_allowed(row, work, token):
            unsent -= 1
    if row.has_allowed_tokens:
        for i in range(row.allowed_tokens_len):
            work.counts[load_i32(row.allowed_tokens, i)] = 0
    if unsent == 0:
        return -np.inf
    return rest if unsent == row.vocab_size - row.width else touch_rest(rest, -1.0)


@jit
def add_bias(row, work, rest):
    """Step 3: the amounts of logit_bias are added. Returns what is known of the rest."""
    if row.candidate_ids == 0:
        numbers = work.y  # three loops, so that the one with the arithmetic vectorises
        for i in range(row.bias_ids_len):
            numbers[i] = work.x[np.uint32(load_i32(row.bias_ids, i))]
        for i in range(row.bias_ids_len):
            numbers[i] = saturate(np.float64(numbers[i]) + np.float64(load_f32(row.bias_values, i)))
        for i in range(row.bias_ids_len):
            work.x[np.uint32(load_i32(row.bias_ids, i))] = numbers[i]
        return rest
    found, amounts = np.int64(0), work.residual
    for i in range(row.bias_ids_len):
        amount = np.float64(load_f32(row.bias_values, i))
        at = find_token(row, work, load_i32(row.bias_ids, i))
        if at < 0:
            rest = touch_rest(rest, amount)
            continue
        work.at[found], amounts[found], work.y[found] = at, amount, work.x[at]
        found += 1
    for i in range(found):
        work.y[i] = saturate(np.float64(work.y[i]) + amounts[i])
    for i in range(found):
        work.x[work.at[i]] = work.y[i]
    return rest


@jit
def has_penalties(row):
    """Tell whether history changes anything."""
    return row.history_len > 0 and (has_token_penalties(row) or row.dry_multiplier > 0)


@jit
def _count(row, work):
    """Mark the tokens of history in counts, and list each once in members. Returns how many are listed.

    A mark is 4 times how often frequency_penalty counts the token, plus 1 if repetition_penalty looks at it, plus 2 if
    presence_penalty does.
    """
    length, prompt, last = np.int64(row.history_len), np.int64(row.prompt_length), np.int64(row.penalty_range)
    repetition = first_token(length, np.int64(row.repetition_scope), prompt, last)
    frequency = first_token(length, np.int64(row.frequency_scope), prompt, last)
    presence = first_token(length, np.int64(row.presence_scope), prompt, last)
    # Scopes end where history ends, so that the first tokens of each divide it into at most three parts.
    first, end = min(repetition, frequency, presence), max(repetition, frequency, presence)
    middle = repetition + frequency + presence - first - end
    listed = np.int64(0)
    for low, high in ((first, middle), (middle, end), (end, length)):
        once = np.int32(low >= repetition) | (np.int32(low >= presence) << np.int32(1))
        each = np.int32(low >= frequency) << np.int32(2)
        listed = _count_part(row, work, low, high, each, once, listed)
    return listed


@jit
def _count_part(row, work, low, high, each, once, listed):  # noqa: PLR0917
    """Mark the tokens in [low, high): `each` is added for each time, `once` or-ed."""
    counts, distinct, history = work.counts, work.members, row.history
    for i in range(low, high):
        token = np.uint32(load_i32(history, i))
        mark = counts[token]
        distinct[listed] = token  # always written and kept if new: whether it is cannot be predicted
        listed += mark == 0
        counts[token] = (mark + each) | once
    return listed


@jit
def _penalised(number, mark, repetition, frequency, presence):
    """Apply the penalties to one number; one that is not finite stays as it is.

    Both factors are applied, one of them 1, since a branch on the sign would be a coin toss.
    """
    logit = np.float64(number)
    factor = repetition if mark & np.int32(1) else 1.0
    is_divided = logit > 0
    logit = logit * (1.0 if is_divided else factor) / (factor if is_divided else 1.0)
    often = np.float64(mark >> np.int32(2))
    logit = min(max(logit, -_LARGEST), _LARGEST) - often * frequency - (presence if mark & np.int32(2) else 0.0)
    return np.float32(min(max(logit, -_LARGEST), _LARGEST)) if np.abs(number) < np.inf else number


@jit
def penalise(row, work, rest):
    """Step 4: repetition, frequency and presence penalties of each distinct token. Returns as `add_bias` does."""
    repetition, frequency, presence = row.repetition_penalty, row.frequency_penalty, row.presence_penalty
    x, counts, distinct = work.x, work.counts, work.members
    scopes = np.int64(row.repetition_scope) | np.int64(row.frequency_scope) << 8 | np.int64(row.presence_scope) << 16
    key = (
        np.uint64(row.history),
        np.uint64(row.history_len),
        np.uint64(row.prompt_length),
        np.uint64(row.penalty_range),
        np.uint64(scopes),
        np.uint64(0),
        np.uint64(0),
    )
    listed = known = recall(work, PENALTIES, key)
    if known < 0:
        listed = _count(row, work)
        remember(work, PENALTIES, known, listed, np.int64(row.history_len))
    if row.candidate_ids == 0:
        marks, numbers = work.at, work.y  # three loops, so that the one with the arithmetic vectorises
        for i in range(listed):
            token = np.uint32(distinct[i])
            marks[i] = counts[token]
            counts[token] = 0
            numbers[i] = x[token]
        for i in range(listed):
            numbers[i] = _penalised(numbers[i], marks[i], repetition, frequency, presence)
        for i in range(listed):
            x[np.uint32(distinct[i])] = numbers[i]
        return rest
    for i in range(listed):
        token = distinct[i]
        mark = counts[token]
        counts[token] = 0
        at = find_token(row, work, token)
        if at >= 0:
            x[at] = _penalised(x[at], mark, repetition, frequency, presence)
            continue
        if mark & 1:
            rest = touch_rest(rest, 1.0 - repetition)
        rest = touch_rest(rest, -(np.float64(mark >> 2) * frequency + (presence if mark & 2 else 0.0)))
    return rest
