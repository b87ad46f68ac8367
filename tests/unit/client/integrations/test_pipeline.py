"""Processors of `generate` become parameters, or stay with transformers; none is lost. Needs no transformers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from samplerd_client import SamplingParams
from samplerd_client.integrations.pipeline import Pipeline, pipeline_of

TOKENS = np.array([[0, 0, 7, 8], [5, 6, 7, 8]])
V = 100


def made(name: str, *, module: str = "transformers.generation.logits_process", **attributes: Any) -> Any:
    """A processor as transformers has it, by its class and attributes."""
    return type(name, (), {"__module__": module, **attributes})()


TEMPERATURE = made("TemperatureLogitsWarper", temperature=0.5)
TOP_K = made("TopKLogitsWarper", top_k=50, min_tokens_to_keep=1, filter_value=-math.inf)
TOP_P = made("TopPLogitsWarper", top_p=0.9, min_tokens_to_keep=1, filter_value=-math.inf)
TOP_H = made("TopHLogitsWarper", top_h=0.4, top_n=100, filter_value=-math.inf)
PENALTY = made("RepetitionPenaltyLogitsProcessor", penalty=1.2, prompt_ignore_length=None)
NGRAMS = made("NoRepeatNGramLogitsProcessor", ngram_size=2)
BIAS = made("SequenceBiasLogitsProcessor", sequence_bias={(3,): -1.0, (7, 8, 9): 2.0})
BAD = made("NoBadWordsLogitsProcessor", sequence_bias={(3,): -math.inf, (8, 4): -math.inf})
CUSTOM = made("Custom", module="__main__")
LAST = made("LogitNormalization")


def sampled(*processors: Any) -> Pipeline:
    return pipeline_of(processors, do_sample=True)


def test_filters_become_steps_in_their_order() -> None:
    found = sampled(TEMPERATURE, TOP_K, TOP_P, LAST)
    assert found.first == ()
    assert found.params == SamplingParams(
        temperature=0.5, top_k=50, top_p=0.9, steps=("temperature", "top_k", "top_p"), ties="hugging_face"
    )
    assert sampled(TOP_P, TOP_K).params.steps == ("top_p", "top_k")


@pytest.mark.parametrize(
    ("name", "attribute", "field"),
    [
        ("MinPLogitsWarper", "min_p", "min_p"),
        ("TypicalLogitsWarper", "mass", "typical_p"),
        ("EpsilonLogitsWarper", "epsilon", "epsilon_cutoff"),
        ("EtaLogitsWarper", "epsilon", "eta_cutoff"),
    ],
)
def test_each_filter_has_its_field(name: str, attribute: str, field: str) -> None:
    found = sampled(made(name, **{attribute: 0.25}, min_tokens_to_keep=3, filter_value=-math.inf))
    assert getattr(found.params, field) == 0.25
    assert found.params.steps == (field,)
    assert found.params.min_tokens_to_keep == 3


@pytest.mark.parametrize(
    "own",
    [
        made("TopPLogitsWarper", top_p=0.0, min_tokens_to_keep=1, filter_value=-math.inf),
        made("TopPLogitsWarper", top_p=0.5, min_tokens_to_keep=1, filter_value=-1e4),
        made("TopPLogitsWarper", top_p=0.5, min_tokens_to_keep=1, filter_value=-math.inf, module="__main__"),
        made("WatermarkLogitsProcessor"),
        CUSTOM,
    ],
    ids=["a value that samplerd refuses", "another filter value", "a user's class", "a watermark", "custom"],
)
def test_what_is_not_known_stays_with_all_before_it(own: Any) -> None:
    found = sampled(PENALTY, TOP_K, own, TEMPERATURE)
    assert found.first == (PENALTY, TOP_K, own)
    assert found.params == SamplingParams(temperature=0.5, steps=("temperature",), ties="hugging_face")
    assert found.step(TOKENS, V) is found.params


def test_filters_that_keep_different_numbers_are_not_put_together() -> None:
    other = made("MinPLogitsWarper", min_p=0.1, min_tokens_to_keep=2, filter_value=-math.inf)
    assert sampled(TOP_P, other).first == (TOP_P,)


def test_the_same_filter_twice_is_not_put_together() -> None:
    assert sampled(TOP_P, TOP_K, TOP_P).first == (TOP_P,)


def test_top_h_looks_at_the_hundred_most_likely() -> None:
    assert sampled(TOP_H, TOP_P).params.steps == ("top_k", "top_h", "top_p")
    assert sampled(TOP_H, TOP_P).params.top_k == 100
    wide = made("TopKLogitsWarper", top_k=100, min_tokens_to_keep=1, filter_value=-math.inf)
    assert sampled(TOP_H, wide).params.steps == ("top_k", "top_h")
    assert sampled(TOP_H, TOP_K).first == (TOP_H,)


def test_greedy_rows_take_the_argmax_and_keep_filters_that_may_drop_it() -> None:
    assert pipeline_of([PENALTY], do_sample=False).params == SamplingParams(temperature=0.0, repetition_penalty=1.2)
    typical = made("TypicalLogitsWarper", mass=0.2, min_tokens_to_keep=1, filter_value=-math.inf)
    found = pipeline_of([typical], do_sample=False)
    assert found.first == (typical,)
    assert found.params == SamplingParams(temperature=0.0)


def test_penalty_and_ngrams_look_at_each_rows_history() -> None:
    first, second = sampled(PENALTY, NGRAMS, TEMPERATURE).step(TOKENS, V)
    assert first.repetition_penalty == 1.2
    assert first.no_repeat_ngram_size == 2
    assert first.prompt_length is None
    assert list(first.history) == [0, 0, 7, 8]
    assert list(second.history) == [5, 6, 7, 8]


def test_the_penalty_does_not_look_at_padding_and_ngrams_do() -> None:
    padded = made("RepetitionPenaltyLogitsProcessor", penalty=1.2, prompt_ignore_length=np.array([2, 0]))
    first, second = sampled(padded, NGRAMS).step(TOKENS, V)
    assert (first.repetition_scope, first.prompt_length, list(first.history)) == ("output", 2, [0, 0, 7, 8])
    assert second.prompt_length == 0
    cut = made("RepetitionPenaltyLogitsProcessor", penalty=1.2, prompt_ignore_length=9)
    assert [own.prompt_length for own in sampled(cut).step(TOKENS, V)] == [4, 4]


def test_biases_of_sequences_apply_where_the_tokens_before_are_the_last() -> None:
    bias = made("SequenceBiasLogitsProcessor", sequence_bias={(3,): -1.0, (6, 7, 8, 9): 2.0, (1, 5, 6, 7, 8, 9): 3.0})
    first, second = sampled(bias).step(TOKENS, V)
    assert first.logit_bias == {3: -1.0}
    assert second.logit_bias == {3: -1.0, 9: 2.0}
    assert first.history is None


def test_a_bad_word_wins_over_a_bias() -> None:
    first, second = sampled(BIAS, BAD).step(TOKENS, V)
    assert first.logit_bias == second.logit_bias == {3: -math.inf, 9: 2.0, 4: -math.inf}


def test_tokens_are_forbidden_while_the_text_is_short() -> None:
    until = made("MinLengthLogitsProcessor", min_length=5, eos_token_id=np.array([1]))
    new = made("MinNewTokensLengthLogitsProcessor", prompt_length_to_skip=4, min_new_tokens=1, eos_token_id=[2])
    always = made("SuppressTokensLogitsProcessor", suppress_tokens=np.array([10, V]))
    begin = made("SuppressTokensAtBeginLogitsProcessor", begin_suppress_tokens=np.array([11]), begin_index=4)
    found = sampled(until, new, always, begin)
    assert found.step(TOKENS, V).logit_bias == dict.fromkeys((1, 2, 10, 11), -math.inf)
    assert found.step(np.zeros((2, 5)), V).logit_bias == {10: -math.inf}


def test_a_bias_after_the_penalty_stays_where_it_is() -> None:
    assert sampled(PENALTY, BIAS, TOP_K).first == (PENALTY, BIAS)
