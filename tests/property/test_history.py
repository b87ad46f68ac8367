"""What the torch sampler makes of a history by whole arrays is what the law's plain text makes of it, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.sampling.bans import last_of_bad_words, last_of_ngrams
from samplerd_server.sampling.dry import dry_penalties, repeat_lengths
from samplerd_server.sampling.portable import history as arrays
from samplerd_server.sampling.portable.history import bad_word_ends, capped_repeats, dry_losses, ngram_ends

tokens = st.integers(0, 3) | st.integers(0, 2**31 - 1)
histories = st.lists(tokens, min_size=1, max_size=60)
words = st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=6)


@pytest.fixture(autouse=True, params=[0, 8], scope="module")
def _passes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs with and without the text that takes over where a history repeats itself for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_MOST_PASSES", request.param)
        yield


def _int32(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


@given(histories, st.integers(0, 70))
def test_repeats(history, most):
    expected = np.minimum(repeat_lengths(history), most).tolist()
    assert capped_repeats(_int32(history), most).tolist() == expected


@given(
    histories,
    st.floats(1e-3, 1e30),
    st.floats(1.0, 1e10),
    st.integers(0, 4),
    st.lists(tokens, max_size=4),
    words,
)
def test_dry(history, multiplier, base, allowed_length, breakers, sequences):
    shared = {"multiplier": multiplier, "base": base, "allowed_length": allowed_length, "sequences": sequences}
    own, losses = dry_losses(_int32(history), breakers=_int32(breakers), **shared)
    assert dict(zip(own.tolist(), losses.tolist(), strict=True)) == dry_penalties(
        history, breakers=set(breakers), **shared
    )


@given(st.lists(tokens, max_size=60), st.integers(1, 5))
def test_ngrams(history, size):
    assert set(ngram_ends(_int32(history), size).tolist()) == last_of_ngrams(history, size)


@given(st.lists(tokens, max_size=8), words.filter(bool))
def test_bad_words(history, bad):
    ids, ends = _int32([token for word in bad for token in word]), _int32(np.cumsum([len(word) for word in bad]))
    assert set(bad_word_ends(_int32(history), ids, ends).tolist()) == last_of_bad_words(history, bad)
