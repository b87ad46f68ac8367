"""The reference against numbers worked out by hand: what everything else is measured by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from samplerd_server.core.enums import (
    FilterStep,
    InputKind,
    LogprobKind,
    Order,
    RowErrorReason,
    Step,
    TieRule,
    XtcExemption,
)
from samplerd_server.core.params import Dry
from samplerd_server.sampling.adaptive_state import next_states
from samplerd_server.sampling.dry import dry_penalties, repeat_lengths
from samplerd_server.sampling.noise import Purpose, uniform
from samplerd_server.sampling.reference.pipeline import find, sample
from tests.support.samplers import encode, params, request, sparse

PROBABILITIES = InputKind.PROBABILITIES


def kept_ids(weights, **fields) -> list[int]:
    """Ids that the filters keep of weights, ascending."""
    outcome = sample(request(weights, kind=PROBABILITIES, params=params(**fields)))[0]
    return sorted(outcome.processed.ids[outcome.processed.kept].tolist())


def test_the_worked_example():
    outcome = sample(request([1.0, 2.0, 0.5, 1.5], params=params(temperature=0.7)))[0]
    scaled = np.exp(outcome.distributions[LogprobKind.SCALED].logprobs)
    assert scaled.round(4).tolist() == [0.1298, 0.5416, 0.0635, 0.2651]
    assert sample(request([1.0, 2.0, 0.5, 1.5], params=params(temperature=0.0)))[0].samples == (1,)
    assert sample(request([0.1, 0.2, 0.3, 0.4], kind=PROBABILITIES, params=params(temperature=0.0)))[0].samples == (3,)


def test_a_draw_is_the_first_cumulative_sum_above_u():
    masses = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    assert [find(masses, 0.0, u) for u in (2.0**-54, 0.2499, 0.25, 0.7499, 0.75, 1 - 2.0**-53)] == [1, 1, 3, 3, 4, 4]
    for seed in range(50):
        drawn = sample(request([0.1, 0.2, 0.3, 0.4], kind=PROBABILITIES, seed=seed))[0].samples[0]
        assert drawn == np.searchsorted(np.cumsum([0.1, 0.2, 0.3, 0.4]), uniform(seed, 0), side="right")


def test_weights_are_raised_to_the_inverse_temperature():
    outcome = sample(request([1, 2, 3], kind=PROBABILITIES, params=params(temperature=0.5)))[0]
    assert np.exp(outcome.distributions[LogprobKind.SCALED].logprobs) * 14 == pytest.approx([1, 4, 9])


def test_top_k_breaks_ties_by_id():
    assert kept_ids([1, 3, 2, 2, 2], top_k=3) == [1, 2, 3]
    assert kept_ids([1, 3, 2, 2, 2], top_k=99) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_shortest_prefix_that_reaches_it():
    weights = [4, 2, 1, 1]  # 0.5, 0.25, 0.125, 0.125
    assert kept_ids(weights, top_p=0.5) == [0]
    assert kept_ids(weights, top_p=0.500001) == [0, 1]
    assert kept_ids(weights, top_p=0.5000001) == [0], "less than a 2^20th part of the second is missing"
    assert kept_ids(weights, top_p=0.875) == [0, 1, 2]
    assert kept_ids(weights, top_p=1e-9) == [0]
    assert kept_ids(weights, top_p=1e-9, min_tokens_to_keep=2) == [0, 1]


def test_top_p_is_judged_on_what_top_k_left():
    weights = [4, 3, 2, 1]
    assert kept_ids(weights, top_k=2, top_p=0.57) == [0]  # 4 / 7 = 0.571
    assert kept_ids(weights, top_k=2, top_p=0.57, order=Order.JOINT) == [0, 1]  # 4 / 10


def test_min_p_is_relative_to_the_largest():
    assert kept_ids([8, 4, 2, 1], min_p=0.25) == [0, 1, 2]
    assert kept_ids([8, 8, 2, 1], min_p=1.0) == [0, 1]


def test_top_a_is_relative_to_the_square_of_the_largest():
    weights = [8, 4, 2, 1, 1]  # 0.5, 0.25, 0.125, 0.0625, 0.0625; the square of the largest is 0.25
    assert kept_ids(weights, top_a=1.0) == [0, 1]
    assert kept_ids(weights, top_a=0.5) == [0, 1, 2]
    assert kept_ids(weights, top_a=0.25) == [0, 1, 2, 3, 4]
    assert kept_ids(weights, top_a=1.0, min_tokens_to_keep=3) == [0, 1, 2]
    assert kept_ids([8, 4, 3, 1], top_p=0.7, top_a=0.8) == [0]  # of 8 / 12 and 4 / 12; of all, 0.2 would keep 0.25
    assert kept_ids([8, 4, 3, 1], top_p=0.7, top_a=0.8, order=Order.VLLM) == [0, 1]
    assert kept_ids([5], top_a=1.0) == [0]


def test_vllm_judges_min_p_before_top_p():
    weights = [8, 4, 3, 1]
    assert kept_ids(weights, min_p=0.5, top_p=0.7, order=Order.VLLM) == [0, 1]  # 8 / 12 < 0.7
    assert kept_ids(weights, min_p=0.5, top_p=0.5) == [0]


def test_epsilon_and_eta_cut_absolute_probabilities():
    weights = [8, 4, 2, 2]
    assert kept_ids(weights, epsilon_cutoff=0.125) == [0, 1, 2, 3]
    assert kept_ids(weights, epsilon_cutoff=0.126) == [0, 1]
    assert kept_ids(weights, epsilon_cutoff=0.9) == [0]  # at least one stays
    # H = 1.75 ln 2, so sqrt(eta) exp(-H) = 0.297 sqrt(eta) < eta for eta = 0.36: the threshold is 0.178.
    assert kept_ids(weights, eta_cutoff=0.36) == [0, 1]


def test_typical_keeps_what_surprises_as_much_as_the_entropy_says():
    # H = 1.75 ln 2 = 1.213; surprises 0.693, 1.386, 2.079, 2.079: the second is nearest, then the first.
    assert kept_ids([8, 4, 2, 2], typical_p=0.2) == [1]
    assert kept_ids([8, 4, 2, 2], typical_p=0.5) == [0, 1]
    assert kept_ids([8, 4, 2, 2], typical_p=0.2, min_tokens_to_keep=2) == [0, 1]


def test_top_n_sigma_measures_from_the_largest_in_standard_deviations():
    logits = [4.0, 2.0, 0.0, -2.0, -np.inf]  # deviation of the finite ones: sqrt(5) = 2.236
    for temperature in (0.5, 1.0, 3.0):
        outcome = sample(request(logits, params=params(top_n_sigma=0.9, temperature=temperature)))[0]
        assert outcome.kept_count == 2


def processed(weights, **fields) -> list[float]:
    """The probabilities that weights are drawn with."""
    outcome = sample(request(weights, kind=PROBABILITIES, params=params(**fields)))[0]
    return np.exp(outcome.distributions[LogprobKind.PROCESSED].logprobs).tolist()


def test_skew_raises_the_cumulative_probabilities_along_the_order():
    """exllamav2 draws the first with c > u^(e^-k), most likely first: its probability is c^(e^k) less that before."""
    half, double = -math.log(2), math.log(2)
    assert processed([1, 4, 3, 2], skew=double) == pytest.approx([1 - 0.81, 0.16, 0.49 - 0.16, 0.81 - 0.49], rel=1e-6)
    first, second, third = 0.4**0.5, 0.7**0.5, 0.9**0.5
    expected = [1 - third, first, second - first, third - second]
    assert processed([1, 4, 3, 2], skew=half) == pytest.approx(expected, rel=1e-6)
    assert processed([2, 2], skew=double) == pytest.approx([0.25, 0.75], rel=1e-6)  # equals: the lowest id comes first
    assert processed([8, 4, 3, 1], skew=double, top_k=2) == pytest.approx([4 / 9, 5 / 9, 0, 0], rel=1e-6)
    assert processed([1, 2], skew=double, temperature=0.0) == [0, 1]
    assert processed([5], skew=2.0) == [1]


def test_adaptive_p_prefers_what_is_near_its_target():
    """llama.cpp's formula: 5 - 10 d^2 / (1 + d), d = abs(p - target) / 0.3."""

    def expected(p, target) -> list[float]:
        d = np.abs(np.array(p) - target) / 0.3
        own = np.exp(5 - 10 * d * d / (1 + d))
        return (own / own.sum()).tolist()

    p = [0.5, 0.3, 0.2]
    assert processed(p, adaptive_target=0.3) == pytest.approx(expected(p, 0.3), rel=1e-5)
    state = {"adaptive_weighted_sum": 1.2, "adaptive_total_weight": 3.0}  # a mean of 0.4: the target moves to 0.2
    assert processed(p, adaptive_target=0.3, **state) == pytest.approx(expected(p, 0.2), rel=1e-5)
    state["adaptive_weighted_sum"] = 2.7  # a mean of 0.9: the target is kept within [0, 1]
    assert processed(p, adaptive_target=0.3, **state) == pytest.approx(expected(p, 0.0), rel=1e-5)
    kept = processed([5, 3, 2], adaptive_target=0.3, top_k=2)
    assert kept == pytest.approx([*expected([0.625, 0.375], 0.3), 0], rel=1e-5)
    squared = processed([5, 3, 2], adaptive_target=0.3, temperature=0.5)
    assert squared == pytest.approx(expected([25 / 38, 9 / 38, 4 / 38], 0.3), rel=1e-5)
    assert processed(p, adaptive_target=0.3, temperature=0.0) == [1, 0, 0]


@pytest.mark.parametrize(
    ("fields", "p"),
    [
        ({}, {0: 0.5, 1: 0.3, 2: 0.2}),
        ({"top_k": 2}, {0: 0.625, 1: 0.375}),  # among what is kept
        ({"temperature": 0.5}, {0: 25 / 38, 1: 9 / 38, 2: 4 / 38}),
        ({"temperature": 0.0}, {0: 1.0}),
        ({"temperature": 1.0, "dynamic_temperature_range": 1.0, "top_k": 1, "order": Order.LLAMA_CPP}, {0: 1.0}),
    ],
)
@pytest.mark.parametrize("with_replacement", [True, False])
def test_the_next_state_of_adaptive_p_takes_the_sample_in(fields, p, with_replacement):
    """`p + decay s` and `1 + decay w`: of each sample as if it were the only one."""
    own = params(
        adaptive_target=0.3, adaptive_weighted_sum=1.2, adaptive_total_weight=3.0, adaptive_decay=0.5, **fields
    )
    draws = 40 if with_replacement else len(p)
    [outcome] = sample(
        request(
            [5, 3, 2], kind=InputKind.PROBABILITIES, params=own, num_samples=draws, with_replacement=with_replacement
        )
    )
    assert set(outcome.samples) <= set(p)
    sums, weights = next_states([own], np.array(outcome.unshaped), np.array([False]))
    assert sums == pytest.approx([p[token] + 0.6 for token in outcome.samples])
    assert weights.tolist() == [2.5] * draws


def test_a_state_is_kept_where_adaptive_p_is_off_and_lost_where_the_row_failed():
    off = params(adaptive_weighted_sum=1.2, adaptive_total_weight=3.0)
    on = params(adaptive_target=0.3)
    sums, weights = next_states([off, on, on], np.array([np.nan] * 2 + [0.25, 0.75] + [np.nan] * 2), np.arange(3) == 2)
    np.testing.assert_array_equal(sums, [1.2, 1.2, 0.25, 0.75, np.nan, np.nan])
    np.testing.assert_array_equal(weights, [3.0, 3.0, 1.0, 1.0, np.nan, np.nan])


def test_top_h_keeps_what_adds_a_share_of_the_entropy():
    weights = [4, 2, 1, 1]  # terms -p log2 p: 0.5, 0.5, 0.375, 0.375 of 1.75 bits
    assert kept_ids(weights, top_h=1e-9) == [0]
    assert kept_ids(weights, top_h=0.57) == [0]
    assert kept_ids(weights, top_h=1 / 1.75) == [0, 1]
    assert kept_ids(weights, top_h=0.785) == [0, 1]
    assert kept_ids(weights, top_h=1.375 / 1.75) == [0, 1, 2]
    assert kept_ids(weights, top_h=1.0) == [0, 1, 2, 3]
    assert kept_ids(weights, top_h=0.1, min_tokens_to_keep=2) == [0, 1]
    assert kept_ids([7], top_h=0.5) == [0]
    assert kept_ids([1, 1, 1, 1], top_h=0.5) == [0, 1]
    # With top_k before it, the entropy is that of what top_k kept, renormalised: 0.39 + 0.53 of 0.92 bits.
    assert kept_ids(weights, top_k=2, top_h=0.45, order=Order.VLLM) == [0]


def test_smoothing_bends_the_scaled_logits():
    """text-generation-webui's law, worked out by hand for logits 2, 1, -1 at T = 0.5: distances 0, -2, -6."""

    def scaled(logits=(2.0, 1.0, -1.0, -np.inf), **fields) -> list[float]:
        outcome = sample(request(logits, params=params(**fields)))[0]
        own = outcome.distributions[LogprobKind.SCALED].logprobs
        return (own - own[0]).tolist()

    own = {"temperature": 0.5, "smoothing_factor": 0.25}
    assert scaled(**own) == pytest.approx([0.0, -1.0, -9.0, -np.inf])  # -0.25 d^2
    assert scaled(**own, smoothing_curve=3.0) == pytest.approx([0.0, -2.0, -54.0, -np.inf])  # 0.25 d^3
    assert scaled(**own, smoothing_curve=2.0) == pytest.approx([0.0, -1.5, -31.5, -np.inf])  # half of each
    assert scaled(**own, smoothing_curve=11.0) == pytest.approx([0.0, -6.0, -234.0, -np.inf])  # d^2 + 1.25 d^3
    assert scaled((2.0, 1.9), smoothing_factor=1.0, smoothing_curve=11.0)[1] == pytest.approx(0.04 - 0.005, abs=1e-6)
    assert scaled((0.0, -3e38), temperature=1e-8, smoothing_factor=1e300)[1] == pytest.approx(-3.4028235e38)
    assert scaled(temperature=0.0, smoothing_factor=0.25) == scaled()  # greedy rows left before the temperature


def test_smoothing_after_the_filters_bends_what_they_kept():
    late = {"order": Order.LLAMA_CPP, "smoothing_factor": 1.0, "xtc_threshold": 0.3, "xtc_probability": 1.0}
    outcome = sample(request(np.log([4, 3.5, 2.5]), params=params(**late)))[0]  # probabilities 0.4, 0.35, 0.25
    own = outcome.distributions[LogprobKind.PROCESSED].logprobs
    assert own[0] == -np.inf
    assert own[2] - own[1] == pytest.approx(-(math.log(3.5 / 2.5) ** 2), rel=1e-5)
    early = {**late, "order": Order.HUGGING_FACE, "xtc_threshold": 0.25}
    outcome = sample(request(np.log([4, 3.5, 2.5]), params=params(**early)))[0]  # bent: 0.370, 0.364, 0.266
    assert outcome.processed.kept.tolist() == [False, False, True]


def test_xtc_drops_all_but_the_least_likely_above_the_threshold():
    weights = [8, 4, 3, 1]
    assert kept_ids(weights, xtc_threshold=0.15, xtc_probability=1.0) == [2, 3]
    assert kept_ids(weights, xtc_threshold=0.3, xtc_probability=1.0) == [0, 1, 2, 3]  # only one is above
    assert kept_ids(weights, xtc_threshold=0.51, xtc_probability=1.0) == [0, 1, 2, 3]  # never acts
    assert kept_ids(weights, xtc_threshold=0.15, xtc_probability=1.0, min_tokens_to_keep=3) == [0, 1, 2, 3]
    exempt = {"xtc_threshold": 0.15, "xtc_probability": 1.0, "xtc_exempt_ids": np.array([1, 3], np.int32)}
    assert kept_ids(weights, **exempt) == [1, 2, 3]
    assert kept_ids(weights, **exempt, min_tokens_to_keep=3) == [1, 2, 3]
    assert kept_ids(weights, **exempt, xtc_exemption=XtcExemption.ROW) == [0, 1, 2, 3]
    exempt["xtc_exempt_ids"] = np.array([2], np.int32)  # the least likely of them, which stays anyhow
    assert kept_ids(weights, **exempt, xtc_exemption=XtcExemption.ROW) == [2, 3]
    acted = [
        sample(request([3, 2, 1], kind=PROBABILITIES, seed=seed, params=params(xtc_threshold=0.2, xtc_probability=0.5)))
        for seed in range(40)
    ]
    noise = [uniform(seed, 0, 0, Purpose.XTC) < 0.5 for seed in range(40)]
    assert [outcome[0].kept_count == 2 for outcome in acted] == noise


def test_llama_cpp_judges_before_the_temperature():
    weights = [4, 2, 1, 1]
    assert kept_ids(weights, temperature=100.0, top_p=0.5, order=Order.LLAMA_CPP) == [0]
    assert kept_ids(weights, temperature=100.0, top_p=0.5) == [0, 1]


def steps(*names: str) -> np.ndarray:
    return np.array([FilterStep[name.upper()] for name in names], np.int32)


def test_filters_judge_at_1_before_the_temperature_and_at_t_after_it():
    weights = [4, 2, 1, 1]
    own = {"temperature": 0.5, "top_p": 0.75, "min_p": 0.3}
    # At T = 1 top_p leaves 4, 2; at T = 0.5 these weigh 16, 4, and 4 / 16 is less than 0.3.
    assert kept_ids(weights, **own, steps=steps("top_p", "temperature", "min_p")) == [0]
    assert kept_ids(weights, **own, steps=steps("top_p", "min_p", "temperature")) == [0, 1]
    # At T = 1 min_p leaves 4, 2; at T = 0.5 the first has 16 / 20 of the mass.
    assert kept_ids(weights, **own, steps=steps("min_p", "temperature", "top_p")) == [0]
    assert kept_ids(weights, **own, steps=steps("min_p", "top_p", "temperature")) == [0, 1]


def test_filters_before_the_temperature_act_on_a_greedy_row():
    weights, xtc = [5, 3, 1, 1], {"xtc_threshold": 0.3, "xtc_probability": 1.0, "temperature": 0.0}
    # Typical is the second: its surprise is 1.204 and the entropy 1.168.
    for fields in (xtc, {"typical_p": 0.2, "temperature": 0.0}):
        late = request(weights, kind=InputKind.PROBABILITIES, params=params(**fields, order=Order.LLAMA_CPP))
        early = request(weights, kind=InputKind.PROBABILITIES, params=params(**fields))
        assert sample(late)[0].samples == (1,)
        assert sample(early)[0].samples == (0,)
    ranked = request(
        weights,
        kind=InputKind.PROBABILITIES,
        params=params(**xtc, order=Order.LLAMA_CPP),
        num_samples=3,
        with_replacement=False,
    )
    assert sample(ranked)[0].samples == (1, 2, 3)
    too_many = replace(ranked, num_samples=4)
    assert (sample(too_many)[0].reason, sample(too_many)[0].detail) == (RowErrorReason.TOO_FEW_TO_DRAW, 3)


@pytest.mark.parametrize(
    ("ties", "top_k", "top_p", "xtc"),
    [
        (TieRule.LOWEST_ID, [0, 1], [0, 1], [2]),
        (TieRule.HIGHEST_ID, [0, 3], [0, 3], [1]),
        (TieRule.ALL, [0, 1, 2, 3], [0, 1, 2, 3], [1, 2]),
        (TieRule.HUGGING_FACE, [0, 1, 2, 3], [0, 3], [2]),
        (TieRule.MLX_LM, [0, 1], [0, 1, 2, 3], [1, 2]),
    ],
)
def test_a_rule_says_what_becomes_of_equals(ties, top_k, top_p, xtc):
    weights = [3, 2, 2, 2, 1]
    assert kept_ids(weights, ties=ties, top_k=2) == top_k
    assert kept_ids(weights, ties=ties, top_p=0.5) == top_p
    assert kept_ids([4, 3, 3], ties=ties, xtc_threshold=0.3, xtc_probability=1.0) == xtc
    assert kept_ids(weights, ties=ties, min_p=0.5) == [0, 1, 2, 3]


def test_equals_of_top_h_stay_as_many_as_it_asks_for_in_hugging_face():
    # The terms -p ln p of 3, 2, 2, 2, 1 tenths are 0.36, 0.32 three times and 0.23 of 1.56 nats: 0.47 of it is two.
    for ties, kept in (
        (TieRule.LOWEST_ID, [0, 1]),
        (TieRule.HIGHEST_ID, [0, 3]),
        (TieRule.ALL, [0, 1, 2, 3]),
        (TieRule.HUGGING_FACE, [0, 1]),
        (TieRule.MLX_LM, [0, 1, 2, 3]),
    ):
        assert kept_ids([3, 2, 2, 2, 1], ties=ties, top_h=0.47) == kept


def test_equals_of_typical_p_are_as_far_from_the_entropy():
    # Of 1, 1, 1, 1 each surprises as much as the entropy says, and half of the mass is two of them.
    for ties, kept in ((TieRule.LOWEST_ID, [0, 1]), (TieRule.HIGHEST_ID, [2, 3]), (TieRule.ALL, [0, 1, 2, 3])):
        assert kept_ids([1, 1, 1, 1], ties=ties, typical_p=0.5) == kept


def test_top_n_sigma_measures_what_is_left():
    weights = np.exp([3.0, 2.0, 1.0, -20.0])
    # All four deviate by 9.55, the first three by 0.816.
    assert kept_ids(weights, top_n_sigma=1.0, top_k=3, steps=steps("top_n_sigma", "top_k")) == [0, 1, 2]
    assert kept_ids(weights, top_n_sigma=1.0, top_k=3, steps=steps("top_k", "top_n_sigma")) == [0]


def test_an_exact_top_k_keeps_less_than_min_tokens_to_keep():
    assert kept_ids([4, 3, 2, 1], top_k=1, min_tokens_to_keep=3) == [0, 1, 2]
    assert kept_ids([4, 3, 2, 1], top_k=1, min_tokens_to_keep=3, top_k_is_exact=True) == [0]
    assert kept_ids([4, 3, 2, 1], min_p=0.9, min_tokens_to_keep=3, top_k_is_exact=True) == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [
        # H = 0.5623 nats; of two categories that is 0.8113 of ln 2, of four 0.4056 of ln 4.
        ({"dynamic_temperature_range": 0.5}, 0.5 + 0.811278),
        ({"dynamic_temperature_range": 0.5, "dynamic_temperature_counts_all": True}, 0.5 + 0.405639),
        # After top_k the list of llama.cpp has two entries.
        (
            {
                "dynamic_temperature_range": 0.5,
                "dynamic_temperature_counts_all": True,
                "top_k": 2,
                "order": Order.LLAMA_CPP,
            },
            0.5 + 0.811278,
        ),
        # A range above the temperature begins at 0 and ends at 1 + 3.
        ({"dynamic_temperature_range": 3.0}, 4 * 0.811278),
    ],
)
def test_what_a_dynamic_temperature_counts(fields, temperature):
    outcome = sample(request([3, 1, 0, 0], kind=InputKind.PROBABILITIES, params=params(**fields)))[0]
    own = outcome.distributions[LogprobKind.PROCESSED]
    assert own.of(0) - own.of(1) == pytest.approx(math.log(3) / temperature, rel=1e-5)


def test_dynamic_temperature_follows_the_entropy():
    fields = {"temperature": 1.0, "dynamic_temperature_range": 0.5}
    flat = sample(request([1, 1, 1, 1], params=params(**fields)))[0]
    assert flat.distributions[LogprobKind.SCALED].entropy() == pytest.approx(math.log(4))
    outcome = sample(request([2, 1, 1], kind=PROBABILITIES, params=params(**fields)))[0]
    temperature = 0.5 + 1.0 * (1.5 * math.log(2)) / math.log(3)
    expected = np.array([2, 1, 1]) ** (1 / temperature)
    assert np.exp(outcome.distributions[LogprobKind.SCALED].logprobs) == pytest.approx(expected / expected.sum())


def test_penalties_in_their_order():
    fields = {"repetition_penalty": 2.0, "frequency_penalty": 0.5, "presence_penalty": 0.25}
    history = np.array([0, 0, 1], np.int32)
    own = sample(request([4.0, -1.0, 3.0], params=params(history=history, **fields)))[0].processed
    by_id = dict(zip(own.ids.tolist(), own.logits.tolist(), strict=True))
    assert by_id == {0: 4 / 2 - 2 * 0.5 - 0.25, 1: -1 * 2 - 0.5 - 0.25, 2: 3.0}


def test_bias_comes_before_the_penalties_and_saturates():
    fields = {"bias_ids": np.array([0, 1], np.int32), "bias_values": np.array([3, -np.inf], np.float32)}
    fields |= {"history": np.array([0], np.int32), "repetition_penalty": 2.0}
    own = sample(request([1.0, 5.0, 3e38], params=params(**fields)))[0].processed
    assert own.ids.tolist() == [2, 0]
    assert own.logits.tolist()[1] == 2.0
    huge = {"bias_ids": np.array([0], np.int32), "bias_values": np.array([3e38], np.float32)}
    assert np.isfinite(sample(request([3e38, 0.0], params=params(**huge)))[0].processed.logits).all()


def test_dry_penalises_what_would_continue_a_repeat():
    assert repeat_lengths([1, 2, 1, 2, 1]) == [0, 0, 3, 0, 1]
    history = [7, 1, 2, 3, 9, 1, 2]  # "1 2" was followed by 3
    arguments = {"multiplier": 0.5, "base": 2.0, "allowed_length": 1}
    assert dry_penalties(history, breakers=set(), **arguments) == {3: 0.5 * 2.0 ** (2 - 1)}
    assert dry_penalties(history, breakers={1}, **arguments) == {3: 0.5}  # the repeat ends at the breaker
    assert dry_penalties(history, breakers={2}, **arguments) == {}
    assert dry_penalties(history, breakers={3}, **arguments) == {}  # a breaker is not penalised
    outcome = sample(
        request(
            np.zeros(10),
            params=params(
                history=np.array(history, np.int32), dry=Dry(multiplier=0.5, base=2.0, allowed_length=1, range=2)
            ),
        )
    )[0]
    assert (outcome.processed.logits == 0).all()  # within the last two tokens nothing repeats


def test_guidance_is_a_quotient_of_powers():
    c, u = [0.5, 0.3, 0.2], [2.0, 2.0, 4.0]  # of the guidance row: 1/4, 1/4, 1/2
    laws = {
        2.0: [1.0, 0.36, 0.08],  # c^2 / u
        0.5: [0.125**0.5, 0.075**0.5, 0.1**0.5],  # the square root of c u
        0.0: [0.25, 0.25, 0.5],  # u
        -1.0: [0.125, 0.0625 / 0.3, 1.25],  # u^2 / c
    }
    for scale, law in laws.items():
        for kind in InputKind:
            rows = [c, u] if kind is PROBABILITIES else [np.log(c), np.log(u)]
            asked = request(rows[0], kind=kind, params=params(guidance_scale=scale), guidance=encode(rows[1]))
            outcome = sample(asked)[0]
            got = np.exp(outcome.distributions[LogprobKind.SCALED].logprobs)
            assert got == pytest.approx(np.array(law) / sum(law), abs=1e-6)
            assert np.exp(outcome.distributions[LogprobKind.RAW].logprobs) == pytest.approx(c)


def test_guidance_comes_before_the_penalties_which_see_log_probabilities():
    # ln 0.25 < 0, so that the penalty multiplies; as sent the logit is above 0, and it would divide.
    asked = request(
        [5.0, 5.0 + math.log(3)],
        params=params(guidance_scale=2.0, repetition_penalty=2.0, history=np.array([0], np.int32)),
        guidance=encode([0.0, 0.0]),
    )
    got = sample(asked)[0].processed
    # 2 ln 0.25 - ln 0.5 = -3 ln 2, doubled; 2 ln 0.75 - ln 0.5.
    assert got.logits == pytest.approx([2 * math.log(0.75) + math.log(2), -6 * math.log(2)], abs=1e-6)
    assert got.ids.tolist() == [1, 0]


def test_a_mask_counts_bits_from_the_least_significant():
    words = np.array([0b1001, 0b1], np.uint32)
    own = sample(request(np.zeros(40), params=params(token_bitmask=words.tobytes())))[0].processed
    assert own.ids.tolist() == [0, 3, 32]


def test_the_step_that_left_nothing_is_named():
    minus = np.array([-np.inf, -np.inf], np.float32)
    cases = {
        Step.INPUT: request([-np.inf, -np.inf]),
        Step.GUIDANCE: request([0.0, -np.inf], params=params(guidance_scale=2.0), guidance=encode([-np.inf, 0.0])),
        Step.MASK: request([0.0, -np.inf], params=params(allowed_tokens=np.array([1], np.int32))),
        Step.BIAS: request([0.0, 0.0], params=params(bias_ids=np.array([0, 1], np.int32), bias_values=minus)),
    }
    for step, asked in cases.items():
        outcome = sample(asked)[0]
        assert (outcome.reason, outcome.detail) == (RowErrorReason.NOTHING_TO_DRAW, step)


def test_without_replacement_logprobs_are_conditional_and_ranks_are_of_the_whole():
    outcome = sample(request([4, 3, 2, 1], kind=PROBABILITIES, num_samples=4, with_replacement=False, seed=3))[0]
    left, weights = 10.0, [4, 3, 2, 1]
    for token, logprob, rank in zip(outcome.samples, outcome.logprobs[LogprobKind.RAW], outcome.ranks, strict=True):
        assert math.exp(logprob) == pytest.approx(weights[token] / left)
        assert rank == token + 1
        left -= weights[token]
    assert sorted(outcome.samples) == [0, 1, 2, 3]


def test_a_category_that_underflows_is_drawn_once_nothing_else_is_left():
    outcome = sample(request([0.0, -1000.0, -3000.0], num_samples=3, with_replacement=False))[0]
    assert outcome.samples == (0, 1, 2)
    assert outcome.logprobs[LogprobKind.RAW] == pytest.approx([0.0, 0.0, 0.0])


def test_draws_continue_where_another_request_stopped():
    row = np.random.default_rng(0).normal(size=50)
    whole = sample(request(row, num_samples=10, seed=5))[0].samples
    first = sample(request(row, num_samples=4, seed=5))[0].samples
    rest = sample(request(row, num_samples=6, seed=5, draw_offset=4))[0].samples
    assert first + rest == whole


def test_row_seeds_free_a_row_from_its_index():
    rows = np.random.default_rng(0).normal(size=(3, 50))
    seeds = np.array([7, 8, 9], np.uint64)
    together = sample(request(rows, row_seeds=seeds, num_samples=5))
    alone = sample(request(rows[2], row_seeds=seeds[2:], num_samples=5))
    assert together[2].samples == alone[0].samples


@pytest.mark.parametrize(
    ("fields", "decided"),
    [
        ({"top_k": 2}, True),
        ({"top_k": 3}, False),
        ({"top_k": 2, "temperature": 0.5}, True),
        ({"temperature": 0.5}, False),
        ({"temperature": 0.0}, True),
        ({"top_p": 0.6}, True),
        ({"top_p": 0.6, "temperature": 0.5}, False),
        ({"top_p": 0.6, "temperature": 0.5, "order": Order.LLAMA_CPP}, True),
        ({"top_p": 0.95}, False),
        ({"min_p": 0.6}, True),
        ({"min_p": 0.6, "temperature": 2.0}, False),
        ({"min_p": 0.6, "temperature": 0.5}, True),
        ({"min_p": 0.4}, False),
        ({"top_a": 0.9}, False),
        ({"top_a": 0.9, "top_k": 2}, True),
        ({"epsilon_cutoff": 0.3}, True),
        ({"epsilon_cutoff": 0.2}, False),
        ({"typical_p": 0.1}, False),
        ({"eta_cutoff": 0.5}, False),
        ({"top_n_sigma": 0.1}, False),
        ({"dynamic_temperature_range": 0.5}, False),
        ({"top_k": 2, "typical_p": 0.5}, True),
        ({"allowed_tokens": np.array([0, 1], np.int32)}, True),
        ({"history": np.array([3], np.int32), "presence_penalty": 1.0, "top_k": 2}, True),
        ({"history": np.array([3], np.int32), "presence_penalty": -1.0, "top_k": 2}, False),
        ({"history": np.array([3], np.int32), "presence_penalty": 1.0, "top_p": 0.6}, False),
    ],
)
def test_what_candidates_decide(fields, decided):
    """Weights 2, 1 were sent and 1 in all was not: 0.5, 0.25 and 0.25; seed 0 draws neither from the rest."""
    asked = sparse([0, 1], [math.log(2), 0.0], 0.0, 4, params=params(**fields))
    reason = sample(asked)[0].reason
    assert reason == (RowErrorReason.NONE if decided else RowErrorReason.OUTSIDE_CANDIDATES)


def test_a_draw_into_the_rest_is_outside_the_candidates():
    reasons = [sample(sparse([0, 1], [math.log(2), 0.0], 0.0, 4, seed=seed))[0].reason for seed in range(200)]
    outside = [uniform(seed, 0) >= 0.75 for seed in range(200)]
    assert [reason == RowErrorReason.OUTSIDE_CANDIDATES for reason in reasons] == outside
