"""What a history does to a row: DRY, repeated n-grams and bad words, by operations on whole arrays.

Laws: `sampling/dry.py` and `sampling/bans.py`, whose answers these are to the last bit, in a fraction of their time.
Rule 1: at worst O(n log n) in the history and the lists; where comparing arrays would take longer, because a history
repeats itself for long, or breakers are sequences, the law's own text computes that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.bans import last_of_bad_words
from samplerd_server.sampling.dry import LARGEST, power, repeat_lengths, tokens_after_breaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["bad_word_ends", "capped_repeats", "dry_losses", "ngram_ends"]

_MOST_PASSES = 8
"""Comparisons of `capped_repeats` for each token of the history, before the linear text takes over."""


def capped_repeats(backwards: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """For every i, how long ``backwards`` and ``backwards[i:]`` begin alike, at most `most`; 0 for i = 0."""
    length = len(backwards)
    repeats = np.zeros(length, np.int64)
    places, known, left = np.arange(1, length), 0, _MOST_PASSES * length
    while known < most and len(places):
        left -= len(places)
        if left < 0:
            return np.minimum(np.array(repeat_lengths(backwards.tolist()), np.int64), most)
        places = places[: np.searchsorted(places, length - known)]
        places = places[backwards[places + known] == backwards[known]]
        known += 1
        repeats[places] = known
    return repeats


def dry_losses(
    history: NDArray[np.int32],
    *,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: NDArray[np.int32],
    sequences: Sequence[Sequence[int]] = (),
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Compute what each token's logit loses, as `dry_penalties` does.

    Args:
        history: int32[n], the tokens that are looked at, oldest first.
        multiplier: > 0.
        base: >= 1.
        allowed_length: >= 0.
        breakers: int32[b], tokens.
        sequences: more breakers, none empty.

    Returns:
        Tokens, int32[t], distinct and ascending, and their losses, float64[t], positive.

    """
    backwards = np.ascontiguousarray(history[::-1])
    single = np.concatenate((breakers, np.array([own[0] for own in sequences if len(own) == 1], np.int32)))
    is_single = np.isin(backwards, single)
    reach = int(is_single.argmax()) if is_single.any() else len(backwards)
    longer = [own for own in sequences if len(own) > 1]
    if longer:
        reach = tokens_after_breaker(backwards.tolist(), set(single.tolist()), longer)
    if reach < allowed_length:
        return backwards[:0], np.empty(0)
    repeats = capped_repeats(backwards, reach)[1:]
    is_long = repeats >= allowed_length
    tokens, at = np.unique(backwards[:-1][is_long], return_inverse=True)
    longest = np.zeros(len(tokens), np.int64)
    np.maximum.at(longest, at, repeats[is_long])
    is_lost = ~np.isin(tokens, single)
    exponents, at = np.unique(longest[is_lost] - allowed_length, return_inverse=True)
    losses = [min(multiplier * power(base, exponent), LARGEST) for exponent in exponents.tolist()]
    return tokens[is_lost], np.array(losses, np.float64)[at]


def ngram_ends(history: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Give the tokens that would complete a sequence of `size` >= 1 tokens of the history once more."""
    if len(history) < size:
        return history[:0]
    if size == 1:
        return history
    backwards = np.ascontiguousarray(history[::-1])
    completed: NDArray[np.int32] = backwards[:-1][capped_repeats(backwards, size - 1)[1:] == size - 1]
    return completed


def bad_word_ends(history: NDArray[np.int32], ids: NDArray[np.int32], ends: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the last tokens of the bad words that the history would complete.

    Args:
        history: int32[n], the tokens in scope.
        ids: int32[m], one sequence after the other, none empty.
        ends: int32[sequences], where each ends in `ids`, ascending.

    """
    begins = np.concatenate(([0], ends[:-1]))
    lengths = ends - begins
    found: NDArray[np.int32] = ids[ends[lengths == 1] - 1]
    if not len(history):
        return found
    # Of the longer ones most end otherwise than the history before their last token.
    is_near = (lengths > 1) & (ids[np.maximum(ends - 2, 0)] == history[-1])
    words = [ids[begin:end].tolist() for begin, end in zip(begins[is_near], ends[is_near], strict=True)]
    tail = history[-max(map(len, words), default=1) :].tolist()
    return np.concatenate((found, np.array(sorted(last_of_bad_words(tail, words)), np.int32)))
