"""The tokens that no_repeat_ngram_size and bad_words forbid, in compiled code. Law: `sampling.bans`."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import allocating, jit, load_i32
from samplerd_server.sampling.kernels.repeats import backwards, measure_repeats
from samplerd_server.sampling.kernels.shared_lists import BANS, recall, remember
from samplerd_server.sampling.scope import first_in_scope

__all__ = ["first_token", "has_bans", "list_bans"]

first_token = jit(first_in_scope)


@jit
def has_bans(row):
    """Tell whether a token may be forbidden."""
    return row.bad_words_ends_len > 0 or (row.no_repeat_ngram_size > 0 and row.history_len > 0)


@jit
def _add(work, listed, token):
    """List a token in members, unless it is there."""
    work.members[listed] = token
    is_new = work.counts[token] == 0
    work.counts[token] = 1
    return listed + is_new


@jit
def _ends_with(row, ids, begin, end):
    """Tell whether history ends with the ids in [begin, end) of a list."""
    shift = row.history_len - end
    at = begin
    while at < end and load_i32(row.history, shift + at) == load_i32(ids, at):
        at += 1
    return at == end


@jit
def _list_bad_words(row, work, listed):
    length = np.int64(row.history_len)
    longest = length - first_token(length, np.int64(row.bad_words_scope), np.int64(row.prompt_length), np.int64(0))
    begin = np.int64(0)
    for i in range(row.bad_words_ends_len):
        end = np.int64(load_i32(row.bad_words_ends, i))
        if end - 1 - begin <= longest and _ends_with(row, row.bad_words_ids, begin, end - 1):
            listed = _add(work, listed, load_i32(row.bad_words_ids, end - 1))
        begin = end
    return listed


@allocating
def _list_ngrams(row, work, listed):
    length, size = np.int64(row.history_len), np.int64(row.no_repeat_ngram_size)
    if size == 0 or length < size:
        return listed
    if size == 1:
        for i in range(length):
            listed = _add(work, listed, load_i32(row.history, i))
        return listed
    z = measure_repeats(row, length)
    for i in range(1, length):
        if z[i] >= size - 1:
            listed = _add(work, listed, backwards(row, i - 1))
    return listed


@jit
def list_bans(row, work):
    """List each forbidden token once in members. Returns how many there are."""
    key = (
        np.uint64(row.history),
        np.uint64(row.history_len),
        np.uint64(row.no_repeat_ngram_size),
        np.uint64(row.bad_words_ids),
        np.uint64(row.bad_words_ends),
        np.uint64(row.bad_words_ends_len),
        np.uint64(np.int64(row.bad_words_scope) << 32 | np.int64(row.prompt_length)),
    )
    listed = known = recall(work, BANS, key)
    if known < 0:
        listed = _list_bad_words(row, work, np.int64(0))
        listed = _list_ngrams(row, work, listed)
        remember(work, BANS, known, listed, np.int64(row.history_len) + np.int64(row.bad_words_ids_len))
    for i in range(listed):
        work.counts[work.members[i]] = 0
    return listed
