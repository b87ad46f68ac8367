"""What samplerd answers where sampling libraries go wrong: the laws, and the figures of docs/what_goes_wrong.md.

Seeds and n are those of `tests.support.hard_cases`; null: the law of the case; alpha = 1e-6 for each test of a count.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from scipy.stats import binomtest, chisquare

from tests.support.hard_cases import CASES, RESULT

if TYPE_CHECKING:
    from samplerd_server.sampling.sampler import Sampler

ALPHA = 1e-6


@cache
def answer(sampler: Sampler, name: str) -> dict[str, Any]:
    """Each case is drawn once for each sampler."""
    return CASES[name](sampler)


@pytest.mark.parametrize("name", ["lost_tail", "doubled_tail"])
def test_a_tail_of_small_weights_keeps_its_mass(sampler: Sampler, name: str) -> None:
    got = answer(sampler, name)
    assert binomtest(got["drawn"], got["draws"], got["expected"] / got["draws"]).pvalue > ALPHA


@pytest.mark.parametrize("name", ["large_float16_weights", "equal_bfloat16_logits"])
def test_equal_numbers_of_half_precision_are_drawn_equally(sampler: Sampler, name: str) -> None:
    assert chisquare(answer(sampler, name)["counts"]).pvalue > ALPHA


def test_a_large_vocabulary_in_float16_has_its_probabilities(sampler: Sampler) -> None:
    got = answer(sampler, "large_vocabulary_in_float16")
    assert got["probability_times_size"] == pytest.approx(1.0, rel=1e-5)


def test_every_bit_of_a_seed_counts(sampler: Sampler) -> None:
    got = answer(sampler, "seeds_beyond_32_bits")
    assert binomtest(got["equal"], got["draws"], 1 / 1_000).pvalue > ALPHA


def test_every_row_of_a_batch_has_its_own_coin(sampler: Sampler) -> None:
    got = answer(sampler, "a_coin_for_each_row")
    n = got["rows"] * got["batches"]
    assert binomtest(round(got["mean"] * got["batches"]), n, 0.5).pvalue > ALPHA
    assert 8 < got["fewest"] < got["most"] < 56


def test_a_coin_is_independent_of_the_draw_before_it(sampler: Sampler) -> None:
    for own in answer(sampler, "a_coin_after_a_draw").values():
        assert own["rows"] > 400
        assert binomtest(own["acted"], own["rows"], 0.5).pvalue > ALPHA


@pytest.mark.parametrize("name", CASES)
def test_the_page_has_these_figures(sampler: Sampler, name: str) -> None:
    stored, got = json.loads(RESULT.read_text(encoding="utf-8"))["answers"][name], answer(sampler, name)
    assert stored.keys() == got.keys()
    for figure, value in stored.items():
        assert got[figure] == pytest.approx(value, rel=1e-5), figure
