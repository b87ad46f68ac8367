"""Steps 2 to 4 against numbers worked out by hand, and the linear searches against the plain ones."""

from __future__ import annotations

import math
import time

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.core.enums import InputKind, LogprobKind, PenaltyScope, RowErrorReason, Step
from samplerd_server.core.params import Dry
from samplerd_server.sampling.bans import last_of_bad_words, last_of_ngrams
from samplerd_server.sampling.dry import dry_penalties, tokens_after_breaker
from samplerd_server.sampling.kernels.sorting import BINS, Sorting, sort
from samplerd_server.sampling.reference.pipeline import sample
from samplerd_server.sampling.scope import first_in_scope
from tests.support.samplers import check, draw, outputs, params, request, sequence_lists, sparse

OUTPUT = PenaltyScope.OUTPUT


def history(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int32)


def logits_of(asked) -> dict[int, float]:
    """What the reference draws from, by id; what is forbidden is missing."""
    own = sample(asked)[0].processed
    return dict(zip(own.ids.tolist(), own.logits.tolist(), strict=True))


def test_where_a_scope_begins():
    assert first_in_scope(10, PenaltyScope.HISTORY, 4, 0) == 0
    assert first_in_scope(10, OUTPUT, 4, 0) == 4
    assert first_in_scope(10, OUTPUT, 99, 0) == 10  # all of it is the prompt
    assert first_in_scope(10, PenaltyScope.HISTORY, 4, 3) == 7
    assert first_in_scope(10, OUTPUT, 4, 8) == 4  # the output ends the range
    assert first_in_scope(10, OUTPUT, 8, 5) == 8
    assert first_in_scope(0, OUTPUT, 4, 8) == 0


def test_each_penalty_has_a_scope_of_its_own():
    """The prompt is 0 1 1, the output 1 2: repetition over both and the others over the output, as in vLLM."""
    fields = {"history": history(0, 1, 1, 1, 2), "prompt_length": 3}
    fields |= {"repetition_penalty": 2.0, "frequency_penalty": 0.5, "presence_penalty": 0.25}
    of_output = {"frequency_scope": OUTPUT, "presence_scope": OUTPUT}
    row = [4.0, 8.0, -1.0, 3.0]
    assert logits_of(request(row, params=params(**fields, **of_output))) == {
        0: 4 / 2,
        1: 8 / 2 - 0.5 - 0.25,
        2: -1 * 2 - 0.5 - 0.25,
        3: 3.0,
    }
    assert logits_of(request(row, params=params(**fields, repetition_scope=OUTPUT))) == {
        0: 4 - 0.5 - 0.25,
        1: 8 / 2 - 3 * 0.5 - 0.25,
        2: -1 * 2 - 0.5 - 0.25,
        3: 3.0,
    }
    assert logits_of(request(row, params=params(**fields, frequency_scope=OUTPUT))) == {
        0: 4 / 2 - 0.25,
        1: 8 / 2 - 0.5 - 0.25,
        2: -1 * 2 - 0.5 - 0.25,
        3: 3.0,
    }


def test_the_range_of_the_penalties_is_not_that_of_dry():
    fields = {"history": history(0, 1, 2, 0, 1), "presence_penalty": 1.0, "penalty_range": 2}
    assert logits_of(request([0.0] * 4, params=params(**fields))) == {0: -1.0, 1: -1.0, 2: 0.0, 3: 0.0}
    dry = Dry(multiplier=4.0, base=2.0, allowed_length=2)
    assert logits_of(request([0.0] * 4, params=params(**fields, dry=dry))) == {0: -1.0, 1: -1.0, 2: -4.0, 3: 0.0}


def test_a_token_that_would_complete_an_ngram_again_is_forbidden():
    assert last_of_ngrams([5, 1, 2, 3, 9, 1, 2], 3) == {3}
    assert last_of_ngrams([5, 1, 2, 3, 9, 1, 2], 2) == {3}
    assert last_of_ngrams([1, 2, 3, 2, 4, 2], 2) == {3, 4}
    assert last_of_ngrams([1, 1, 1], 2) == {1}
    assert last_of_ngrams([1, 1], 3) == set()
    assert last_of_ngrams([1, 2, 2], 1) == {1, 2}
    assert last_of_ngrams([], 1) == set()
    fields = {"history": history(0, 1, 2, 0, 1), "no_repeat_ngram_size": 3}
    assert logits_of(request([1.0, 2.0, 9.0], params=params(**fields))).keys() == {0, 1}


def test_a_bad_word_is_never_completed():
    assert last_of_bad_words([4, 1, 2], [[1, 2, 3], [2, 5], [6], [4, 2, 7], [9, 4, 1, 2, 8]]) == {3, 5, 6}
    assert last_of_bad_words([], [[1, 2], [3]]) == {3}
    words = sequence_lists("bad_words", [[1, 2], [3]])
    fields = {"history": history(0, 1), **words}
    assert logits_of(request([1.0] * 5, params=params(**fields))).keys() == {0, 1, 4}
    # The word began in the prompt.
    fields |= {"prompt_length": 2, "bad_words_scope": OUTPUT}
    assert logits_of(request([1.0] * 5, params=params(**fields))).keys() == {0, 1, 2, 4}
    fields |= {"prompt_length": 1}
    assert logits_of(request([1.0] * 5, params=params(**fields))).keys() == {0, 1, 4}
    assert logits_of(request([1.0] * 5, params=params(**words))).keys() == {0, 1, 2, 4}


def test_what_is_forbidden_stays_so_whatever_is_added():
    fields = {"history": history(0, 0), "no_repeat_ngram_size": 2, "presence_penalty": -9.0}
    fields |= {"bias_ids": history(0), "bias_values": np.array([50.0], np.float32)}
    assert logits_of(request([1.0, 2.0], params=params(**fields))) == {1: 2.0}


def test_forbidding_the_last_token_is_a_row_error_of_the_mask(sampler):
    words = sequence_lists("bad_words", [[0], [1]])
    for fields in (
        words,
        {"history": history(0, 1), "no_repeat_ngram_size": 1},
        {"allowed_tokens": history(0), **sequence_lists("bad_words", [[0]])},
    ):
        for kind in InputKind:
            asked = request([1.0, 2.0], kind=kind, params=params(**fields))
            outcome = sample(asked)[0]
            assert (outcome.reason, outcome.detail) == (RowErrorReason.NOTHING_TO_DRAW, Step.MASK)
            got = draw(sampler, asked)
            assert (got.status[0], got.detail[0]) == (outcome.reason, outcome.detail)


@pytest.mark.parametrize(
    ("fields", "decided"),
    [
        (sequence_lists("bad_words", [[2], [3]]), True),  # nothing that was not sent is left
        (sequence_lists("bad_words", [[2]]), False),
        ({"allowed_tokens": history(0, 1, 2), **sequence_lists("bad_words", [[2]])}, True),
        ({"allowed_tokens": history(0, 1, 2), **sequence_lists("bad_words", [[3]])}, False),
        (sequence_lists("bad_words", [[1]]), True),  # all that was not sent is
        ({"history": history(3, 3), "no_repeat_ngram_size": 2, "top_k": 1}, True),
        ({"history": history(3, 3), "no_repeat_ngram_size": 2}, False),
        ({"history": history(3, 0), "presence_penalty": 1.0, "prompt_length": 1, "presence_scope": OUTPUT}, True),
        ({"history": history(0, 3), "presence_penalty": 1.0, "prompt_length": 1, "presence_scope": OUTPUT}, False),
    ],
)
def test_what_bans_and_scopes_leave_of_candidates(sampler, fields, decided):
    """Logits ln 2 and 0 were sent and a mass of 1 was not, for ids 2 and 3; seed 0 draws from what was sent."""
    asked = sparse([0, 1], [math.log(2), 0.0], 0.0, 4, params=params(**fields))
    reason = RowErrorReason.NONE if decided else RowErrorReason.OUTSIDE_CANDIDATES
    assert sample(asked)[0].reason == reason
    assert draw(sampler, asked).status[0] == reason


def test_a_draw_from_candidates_that_are_all_forbidden_is_outside_of_them(sampler):
    for fields in (sequence_lists("bad_words", [[1]]), {"allowed_tokens": history(0, 2, 3)}):
        asked = sparse([1], [1.5], 2.5, 4, params=params(**fields), seed=4)
        assert sample(asked)[0].reason == RowErrorReason.OUTSIDE_CANDIDATES
        got = draw(sampler, asked)
        assert (got.status[0], got.samples[0]) == (RowErrorReason.OUTSIDE_CANDIDATES, -1)


def test_breakers_of_dry_may_be_sequences():
    backwards = [3, 2, 1, 9, 8, 1]
    assert tokens_after_breaker(backwards, set()) == 6
    assert tokens_after_breaker(backwards, {9}) == 3
    assert tokens_after_breaker(backwards, set(), [[9, 1]]) == 2
    assert tokens_after_breaker(backwards, {9}, [[8, 9, 1]]) == 3  # 9 begins later, though it leaves more
    assert tokens_after_breaker(backwards, {9}, [[9, 1, 2]]) == 1  # both begin there: the longest
    assert tokens_after_breaker(backwards, set(), [[3, 2]]) == 6
    assert tokens_after_breaker(backwards, {3}, [[2, 3]]) == 0
    arguments = {"multiplier": 1.0, "base": 2.0, "allowed_length": 1}
    own = [7, 1, 2, 3, 9, 7, 1, 2]
    assert dry_penalties(own, breakers=set(), **arguments) == {3: 4.0}
    assert dry_penalties(own, breakers=set(), sequences=[[9, 7]], **arguments) == {3: 2.0}
    assert dry_penalties(own, breakers=set(), sequences=[[7, 1]], **arguments) == {3: 1.0}
    assert dry_penalties(own, breakers=set(), sequences=[[1, 3]], **arguments) == {3: 4.0}
    # Only a breaker of one token is spared.
    assert dry_penalties(own, breakers=set(), sequences=[[3, 9]], **arguments) == {3: 4.0}
    assert dry_penalties(own, breakers=set(), sequences=[[3]], **arguments) == {}


def test_dry_may_penalise_a_repeat_of_nothing():
    fields = {"history": history(0, 1, 2, 1, 3), "dry": Dry(multiplier=0.5, base=2.0, allow_no_repeat=True)}
    # Every token that is looked at but the oldest follows a repeat of nothing.
    assert logits_of(request([0.0] * 5, params=params(**fields))) == {0: 0.0, 1: -0.5, 2: -0.5, 3: -0.5, 4: 0.0}


def plain_reach(backwards: list[int], breakers: list[list[int]]) -> int:
    """llama.cpp's search, step by step: the first place from the end where a breaker begins, the longest of them."""
    for at in range(len(backwards)):
        found = [
            len(breaker)
            for breaker in breakers
            if len(breaker) <= at + 1 and backwards[at + 1 - len(breaker) : at + 1] == breaker[::-1]
        ]
        if found:
            return at + 1 - max(found)
    return len(backwards)


FEW = st.integers(0, 2)


@given(st.lists(FEW, max_size=30), st.lists(st.lists(FEW, min_size=1, max_size=6), max_size=5))
def test_the_tree_of_breakers_finds_what_a_plain_search_finds(backwards, breakers):
    single = {breaker[0] for breaker in breakers if len(breaker) == 1}
    longer = [breaker for breaker in breakers if len(breaker) > 1]
    assert tokens_after_breaker(backwards, single, longer) == plain_reach(backwards, breakers)


@given(st.lists(FEW, max_size=30), st.integers(1, 5))
def test_ngrams_are_those_that_a_plain_search_finds(tokens, size):
    """Hugging Face's search: every window of the history against its last size - 1 tokens."""
    windows = [tokens[at : at + size] for at in range(len(tokens) - size + 1)]
    end = tokens[len(tokens) + 1 - size :]
    assert last_of_ngrams(tokens, size) == {window[-1] for window in windows if window[:-1] == end}


@numba.njit
def compiled_sort(keys, values, more_keys, more_values, bins):
    sort(Sorting(keys, values, more_keys, more_values, bins), len(keys))


@pytest.mark.parametrize("count", [0, 1, 2, 511, 512, 5000])
@pytest.mark.parametrize("bound", [2, 1 << 20, 1 << 62])
def test_sorting_of_few_and_of_many(count, bound):
    keys = np.random.default_rng(count).integers(0, bound, count)
    values = np.arange(count, dtype=np.int32)
    own = keys.copy()
    compiled_sort(own, values, keys.copy(), values.copy(), np.zeros(BINS, np.int64))
    assert own.tolist() == sorted(keys.tolist())
    assert keys[values].tolist() == own.tolist()
    assert len(set(values.tolist())) == count


@pytest.mark.parametrize("seed", range(4))
def test_many_breakers_leave_what_the_reference_says(sampler, seed):
    """More sequences than are sorted by a heap; the last 40 tokens are those of an earlier place, and hold breakers."""
    random = np.random.default_rng(seed)
    sequences = [random.integers(0, 60, random.integers(2, 6)).tolist() for _ in range(2000)]
    end = random.integers(60, 90, 40).tolist()
    end[-20:-17] = sequences[7][:3]
    tokens = [*end, 95, *random.integers(0, 90, 500).tolist(), *end]
    dry = Dry(multiplier=0.5, base=1.1, **sequence_lists("breaker_sequences", [*sequences, end[-18:-15]]))
    fields = {"history": np.array(tokens, np.int32), "dry": dry, "temperature": 0.0}
    asked = request(np.append(np.zeros(95), [3.0, 2.0]), params=params(**fields), outputs=outputs(LogprobKind.SCALED))
    (want,) = check(sampler, asked)
    scaled = want.distributions[LogprobKind.SCALED]
    assert -2 < scaled.of(95) - scaled.of(96) < 1  # without a breaker it would lose 0.5 x 1.1^38


def test_many_candidates_in_any_order_are_a_row(sampler):
    random = np.random.default_rng(5)
    ids, logits = random.permutation(5000)[:3000], random.normal(size=3000)
    own = params(bias_ids=ids[:700].astype(np.int32), bias_values=np.full(700, 0.25, np.float32), top_k=50)
    check(sampler, sparse(ids.tolist(), logits.tolist(), -np.inf, 5000, params=own, num_samples=20, seed=3))


LIMIT = 1 << 16
ZEROS = np.zeros(LIMIT, np.int32)
EVERY = np.random.default_rng(4).permutation(LIMIT).astype(np.int32)
SECONDS = {"numba": 0.4, "torch": 8.0}
"""Of the thread alone: some ten times what it takes."""
# Sequences 0 .. 0 1 of every length, with about LIMIT tokens in all: none stands in a history of zeros.
LADDER = [[0] * length + [1] for length in range(1, int(math.sqrt(2 * LIMIT)))]
PAIRS = [[1, token] for token in range(LIMIT // 2)]


@pytest.mark.parametrize(
    "fields",
    [
        {"history": EVERY, "repetition_penalty": 1.1, "frequency_penalty": 0.1},
        {"bias_ids": EVERY, "bias_values": np.ones(LIMIT, np.float32)},
        {"history": ZEROS, "dry": Dry(multiplier=0.8, sequence_breakers=np.sort(EVERY)[1:])},
        {"history": ZEROS, "dry": Dry(multiplier=0.8, **sequence_lists("breaker_sequences", LADDER))},
        {"history": ZEROS, "dry": Dry(multiplier=0.8, **sequence_lists("breaker_sequences", PAIRS))},
        {
            "history": ZEROS,
            "dry": Dry(multiplier=0.8, **sequence_lists("breaker_sequences", [[0] * (LIMIT - 1) + [1]])),
        },
        {"history": ZEROS, **sequence_lists("bad_words", LADDER)},
        {"history": ZEROS, "no_repeat_ngram_size": LIMIT // 2},
        {"history": np.resize(EVERY[:999], LIMIT), "no_repeat_ngram_size": 500},
    ],
    ids=[
        *("penalties", "logit_bias", "breakers", "a ladder of breaker_sequences", "pairs", "one long sequence"),
        *("bad_words", "long n-grams", "n-grams of a period"),
    ],
)
def test_lists_at_their_limits_take_no_quadratic_time(sampler, fields):
    """A step for each pair of tokens would take 1 ns in compiled code, 4 s in all, and 50 ns in Python."""
    asked = request(np.zeros(LIMIT), params=params(**fields, top_k=1))
    began = time.thread_time()
    assert draw(sampler, asked).status[0] == RowErrorReason.NONE
    assert time.thread_time() - began < SECONDS[sampler.name]
