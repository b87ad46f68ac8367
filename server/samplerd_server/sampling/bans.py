"""Which tokens no_repeat_ngram_size and bad_words forbid after a history.

Laws. With n = no_repeat_ngram_size: a token that would complete a sequence of n tokens which stands in the history
already; nothing if the history is shorter than n. Of bad_words: the last token of each sequence where the history, from
its first token in scope on, ends with the tokens before it; of a sequence of one token, always that token.

Source: Hugging Face's ``NoRepeatNGramLogitsProcessor`` and ``NoBadWordsLogitsProcessor``, which look at prompt and
output; vLLM's ``apply_bad_words`` looks at the output. Rule 1: plain Python on the host, linear in what is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.sampling.dry import repeat_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["last_of_bad_words", "last_of_ngrams"]


def last_of_ngrams(history: Sequence[int], size: int) -> set[int]:
    """Give the tokens that would complete a sequence of `size` >= 1 tokens of the history once more."""
    if len(history) < size:
        return set()
    if size == 1:
        return set(history)
    backwards = list(reversed(history))
    lengths = repeat_lengths(backwards)
    return {backwards[i - 1] for i in range(1, len(backwards)) if lengths[i] >= size - 1}


def last_of_bad_words(history: Sequence[int], bad_words: Sequence[Sequence[int]]) -> set[int]:
    """Give the tokens that would complete a bad word. Args: history, the tokens in scope; bad_words, none empty."""
    length = len(history)
    return {
        word[-1]
        for word in bad_words
        if len(word) <= length + 1 and list(history[length - len(word) + 1 :]) == list(word[:-1])
    }
