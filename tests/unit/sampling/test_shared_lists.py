"""Rows that share their lists: worked out once or for each row, a row's answer is the same."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import LogprobKind
from samplerd_server.core.params import Dry
from tests.support.samplers import check, make_sampler, outputs, params, request, sparse

RNG = np.random.default_rng(7)
HISTORY = RNG.integers(0, 40, 300).astype(np.int32)
OTHER = RNG.integers(0, 40, 300).astype(np.int32)
SHARED = {
    "penalties": params(history=HISTORY, repetition_penalty=1.3, frequency_penalty=0.1, presence_penalty=0.2),
    "scopes": params(history=HISTORY, frequency_penalty=0.2, prompt_length=200, penalty_range=50),
    "dry": params(history=HISTORY, dry=Dry(multiplier=0.8, allowed_length=1, sequence_breakers=HISTORY[:3])),
    "n-grams": params(history=HISTORY, no_repeat_ngram_size=1, min_tokens_to_keep=1)
    if HISTORY.max() < 39
    else params(history=HISTORY, no_repeat_ngram_size=3),
    "both": params(history=HISTORY, frequency_penalty=0.2, dry=Dry(multiplier=0.5), no_repeat_ngram_size=4),
}
EVERY = outputs(*LogprobKind, rank=True)


def numbers(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, 60))


@pytest.mark.parametrize("name", sorted(SHARED))
def test_rows_with_one_history_are_drawn_as_the_reference_draws_them(name):
    check(make_sampler("numba"), request(numbers(6), params=SHARED[name], outputs=EVERY, seed=3))


@pytest.mark.parametrize("name", sorted(SHARED))
def test_a_row_does_not_depend_on_the_rows_before_it(name):
    sampler, rows = make_sampler("numba"), numbers(5)
    own = SHARED[name]
    different = params(history=OTHER, frequency_penalty=0.2, dry=Dry(multiplier=0.5), no_repeat_ngram_size=4)
    each = (own, own, different, own, different)
    asked = request(rows, params=each, outputs=EVERY, row_seeds=np.arange(5, dtype=np.uint64))
    together = sampler.sample(pack([asked]))
    for row in range(5):
        alone = request(rows[row], params=each[row], outputs=EVERY, row_seeds=np.arange(row, row + 1, dtype=np.uint64))
        got = sampler.sample(pack([alone]))
        assert got.samples[0] == together.samples[row]
        for kind in LogprobKind:
            assert got.logprobs[kind].tobytes() == together.logprobs[kind][row : row + 1].tobytes()


def test_nothing_is_remembered_from_one_batch_to_the_next():
    sampler = make_sampler("numba")
    history = np.zeros(300, np.int32)
    own = params(history=history, frequency_penalty=1e6, temperature=0.0)
    asked = request(np.zeros((4, 3)), params=own)
    assert sampler.sample(pack([asked])).samples.tolist() == [1] * 4
    history[:150] = 1  # the same memory, read by the same parameters
    assert sampler.sample(pack([asked])).samples.tolist() == [2] * 4


@pytest.mark.parametrize("rest", [-np.inf, -2.0])
def test_many_biases_and_penalties_of_candidates(rest):
    ids = np.arange(0, 90, 3)
    own = params(
        bias_ids=np.arange(80, dtype=np.int32),
        bias_values=np.linspace(-2, 0, 80).astype(np.float32),
        history=HISTORY,
        frequency_penalty=0.01,
        top_k=5,
    )
    asked = sparse(ids.tolist(), np.cos(ids).tolist(), rest, 90, params=own, num_samples=20, outputs=outputs(rank=True))
    check(make_sampler("numba"), asked)
    # Another row of candidates is not looked up among the first one's.
    check(make_sampler("numba"), sparse([1, 2], [0.0, 1.0], -np.inf, 90, params=own, num_samples=5))
