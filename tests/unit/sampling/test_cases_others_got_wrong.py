"""The cases that samplers elsewhere got wrong, each by name, for every sampler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, Order, RowErrorReason, Step
from samplerd_server.sampling import noise
from samplerd_server.sampling.portable.tree import MassTree
from tests.support.samplers import all_outputs, check, draw, outputs, params, request, require, sparse

RAW = outputs(LogprobKind.RAW, LogprobKind.SCALED)


def test_a_row_of_minus_infinity_is_an_error_not_token_0(sampler):
    got = draw(sampler, request([-np.inf] * 9), request([0.0] * 9), request([0.0] * 9, kind=InputKind.PROBABILITIES))
    assert got.status.tolist() == [RowErrorReason.NOTHING_TO_DRAW, 0, RowErrorReason.NOTHING_TO_DRAW]
    assert got.detail[0] == Step.INPUT
    assert got.samples[0] == -1


@pytest.mark.parametrize("dtype", list(Dtype))
def test_a_nan_row_between_good_rows_fails_alone(sampler, dtype):
    rows = np.random.default_rng(1).integers(-8, 8, (5, 700)) / 4.0
    bad = rows.copy()
    bad[1, 699], bad[3, 0], bad[3, 5] = np.nan, np.inf, np.nan
    good, mixed = draw(sampler, request(rows, dtype)), draw(sampler, request(bad, dtype))
    assert mixed.status.tolist() == [0, RowErrorReason.NAN, 0, RowErrorReason.POSITIVE_INFINITY, 0]
    assert mixed.detail.tolist() == [0, 699, 0, 0, 0]
    assert mixed.samples[[0, 2, 4]].tolist() == good.samples[[0, 2, 4]].tolist()
    assert mixed.samples[[1, 3]].tolist() == [-1, -1]


def test_a_negative_weight_and_a_number_beyond_float32_are_row_errors(sampler):
    got = draw(sampler, request([0.5, -0.1, 1.0], kind=InputKind.PROBABILITIES))
    assert (got.status[0], got.detail[0]) == (RowErrorReason.NEGATIVE_WEIGHT, 1)
    got = draw(sampler, request([-0.0, 0.0, 1.0], kind=InputKind.PROBABILITIES))
    assert (got.status[0], got.samples[0]) == (0, 2)
    for value in (1e300, -1e300):
        got = draw(sampler, request([0.0, 1.0, value], Dtype.F64))
        assert (got.status[0], got.detail[0]) == (RowErrorReason.POSITIVE_INFINITY, 2)
    assert draw(sampler, request([0.0, 1.0, -np.inf], Dtype.F64)).status[0] == 0


def test_u_at_both_ends_finds_a_category_with_mass():
    """The noise never reaches 0 or 1, and a target at either end of the sums stays within them."""
    masses = torch.tensor([[0.0, 0.0, 0.3, 0.0, 0.7, 0.0, 0.0]], dtype=torch.float64)
    tree = MassTree(masses)
    ends = torch.tensor([[0.0, 2.0**-54, 1 - 2.0**-53, 1.0]], dtype=torch.float64)
    assert tree.find(ends * tree.total).tolist() == [[2, 2, 4, 4]]
    assert 0 < noise.uniform_from_words(0, 0) < noise.uniform_from_words(2**32 - 1, 2**32 - 1) < 1


def test_ties_at_k_keep_exactly_k_with_the_lowest_ids(sampler):
    require(sampler, "SamplingParams.top_k", "Outputs.kept")
    asked = request(
        np.zeros(1000), params=params(top_k=5), num_samples=400, outputs=outputs(LogprobKind.PROCESSED, kept=True)
    )
    got = draw(sampler, asked)
    assert got.kept_count[0] == 5
    assert set(got.samples.tolist()) == {0, 1, 2, 3, 4}


def test_ties_at_p_keep_the_shortest_prefix_with_the_lowest_ids(sampler):
    require(sampler, "SamplingParams.top_p")
    asked = request([1, 1, 2, 1, 1, 1, 1], kind=InputKind.PROBABILITIES, params=params(top_p=0.5), num_samples=300)
    assert set(draw(sampler, asked).samples.tolist()) == {0, 1, 2}


def test_k_larger_than_v_keeps_all(sampler):
    require(sampler, "SamplingParams.top_k")
    row = np.random.default_rng(0).normal(size=20)
    many = {"num_samples": 200, "seed": 4}
    filtered, plain = request(row, params=params(top_k=100), **many), request(row, **many)
    assert draw(sampler, filtered).samples.tolist() == draw(sampler, plain).samples.tolist()


@pytest.mark.parametrize("top_p", [1.0, 1e-9])
def test_p_of_1_and_p_of_almost_0(sampler, top_p):
    require(sampler, "SamplingParams.top_p")
    row = np.random.default_rng(2).permutation(50) / 8
    got = draw(sampler, request(row, params=params(top_p=top_p), num_samples=3000))
    assert set(got.samples.tolist()) == ({int(row.argmax())} if top_p < 1 else set(got.samples.tolist()))
    assert top_p < 1 or len(set(got.samples.tolist())) > 20


def test_min_p_of_1_keeps_the_largest_and_its_ties(sampler):
    require(sampler, "SamplingParams.min_p")
    got = draw(sampler, request([1.0, 3.0, 2.0, 3.0], params=params(min_p=1.0), num_samples=100))
    assert set(got.samples.tolist()) == {1, 3}


def test_temperature_0_is_argmax_with_ties_to_the_lowest_id(sampler):
    row = np.zeros(5000)
    row[[4321, 77, 4999]] = 1.0
    got = draw(sampler, request(row, params=params(temperature=0.0), num_samples=3))
    assert got.samples.tolist() == [77, 77, 77]
    asked = request(row, params=params(temperature=0.0), num_samples=5, with_replacement=False)
    assert draw(sampler, asked).samples.tolist() == [77, 4321, 4999, 0, 1]


def test_a_tiny_temperature_neither_overflows_nor_is_clamped(sampler):
    row = [1.0, 1.0 + 2.0**-20, 0.5]
    got = draw(sampler, request(row, params=params(temperature=1e-8), num_samples=50))
    assert set(got.samples.tolist()) == {1}
    # Two logits that differ by as much as T: odds of e to 1, however small T is.
    even = draw(sampler, request([1.0, 1.0], params=params(temperature=1e-8), num_samples=400, seed=1))
    assert 120 < even.samples.sum() < 280


def test_a_huge_temperature_flattens(sampler):
    got = draw(sampler, request([0.0, 100.0], params=params(temperature=1e4), num_samples=1000, seed=1))
    assert 400 < got.samples.sum() < 600


def test_a_one_hot_row_without_replacement_has_too_few(sampler):
    row = np.full(50, -np.inf)
    row[7] = 3.0
    got = draw(sampler, request(row, num_samples=3, with_replacement=False), request(row, num_samples=3))
    assert got.status.tolist() == [RowErrorReason.TOO_FEW_TO_DRAW, 0]
    assert got.detail[0] == 1
    assert got.samples.tolist() == [-1, -1, -1, 7, 7, 7]


def test_categories_that_underflow_are_drawn_when_nothing_else_is_left(sampler):
    check(sampler, request([0.0, -1000.0, -3000.0, -np.inf], num_samples=3, with_replacement=False, outputs=RAW))


def mixed_batch(sampler) -> list:
    """Seeded, greedy, failing, filtered and masked rows of several sizes and dtypes."""
    numbers = np.random.default_rng(5)
    plain = [
        request(numbers.normal(size=(2, 3000)) * 3, seed=11, num_samples=4, outputs=RAW),
        request(numbers.normal(size=1500), Dtype.F16, seed=12, params=params(temperature=0.5)),
        request(numbers.normal(size=2999) * 3, seed=13, num_samples=5, with_replacement=False, outputs=RAW),
        request(numbers.random(3000), kind=InputKind.PROBABILITIES, seed=14, num_samples=2),
        request(numbers.normal(size=3000), params=params(temperature=0.0)),
        request([np.nan] * 3000),
        request([-np.inf] * 100),
        request(numbers.normal(size=513), Dtype.BF16, seed=15, num_samples=100),
        request(numbers.normal(size=512), Dtype.F64, seed=16, num_samples=3, with_replacement=False),
    ]
    if "SamplingParams.top_p" not in sampler.capabilities:
        return plain
    wanted = all_outputs(sampler, top_n=7, named=[3, 99])
    rows = {f"{name}": numbers.normal(size=3000) * 2 for name in ("p", "k", "t", "n")}
    return [
        *plain,
        request(rows["p"], seed=17, params=params(top_p=0.9), outputs=wanted, num_samples=3),
        request(rows["k"], seed=18, params=params(top_k=40, min_p=0.1), outputs=wanted),
        request(rows["t"], seed=19, params=params(typical_p=0.5), outputs=wanted, num_samples=2),
        request(rows["n"], seed=20, params=params(top_n_sigma=1.5, temperature=2.0), outputs=wanted),
        request(rows["n"], seed=21, outputs=wanted, num_samples=5),
    ]


def test_batch_mates_never_change_a_bit_of_a_row(sampler):
    """A result is a function of the row alone: alone, first, last, anywhere."""
    requests = mixed_batch(sampler)
    alone = [draw(sampler, one) for one in requests]
    shuffler = np.random.default_rng(3)
    for _ in range(6):
        order = shuffler.permutation(len(requests)).tolist()
        together = draw(sampler, *[requests[at] for at in order])
        row = sample = top = named = 0
        for at in order:
            one, own = requests[at], alone[at]
            rows, samples = len(own.status), len(own.samples)
            assert together.status[row : row + rows].tobytes() == own.status.tobytes()
            assert together.samples[sample : sample + samples].tobytes() == own.samples.tobytes()
            for kind in own.logprobs:
                assert together.logprobs[kind][sample : sample + samples].tobytes() == own.logprobs[kind].tobytes()
            for kind in own.entropy:
                assert together.entropy[kind][row : row + rows].tobytes() == own.entropy[kind].tobytes()
            if own.kept_mass is not None:
                assert together.kept_mass[row : row + rows].tobytes() == own.kept_mass.tobytes()
                assert together.ranks[sample : sample + samples].tobytes() == own.ranks.tobytes()
            ids = one.outputs.logprob_ids
            tops, names = rows * one.outputs.top_n, 0 if ids is None else rows * len(ids)
            for kind in own.top_ids:
                assert together.top_ids[kind][top : top + tops].tobytes() == own.top_ids[kind].tobytes()
                assert together.top_logprobs[kind][top : top + tops].tobytes() == own.top_logprobs[kind].tobytes()
            for kind in own.named:
                assert together.named[kind][named : named + names].tobytes() == own.named[kind].tobytes()
            row, sample, top, named = row + rows, sample + samples, top + tops, named + names


def test_rows_of_unlike_sizes_side_by_side_do_not_leak_into_each_other(sampler):
    """Sizes near enough to share a padded tensor: what lies beyond a row's end must weigh nothing."""
    numbers = np.random.default_rng(4)
    requests = [
        request(numbers.normal(size=int(size)) - 50.0, seed=seed, num_samples=8, outputs=RAW)
        for seed, size in enumerate(numbers.integers(900, 1000, 30))
    ]
    together = draw(sampler, *requests)
    for at, one in enumerate(requests):
        own, alone = slice(8 * at, 8 * at + 8), draw(sampler, one)
        assert (together.samples[own] < one.source.vocab_size).all()
        assert together.samples[own].tolist() == alone.samples.tolist()
        assert together.logprobs[LogprobKind.RAW][own].tobytes() == alone.logprobs[LogprobKind.RAW].tobytes()


def test_the_reply_goes_to_the_right_one_of_many_equal_requests(sampler):
    row = np.random.default_rng(0).normal(size=200)
    seeds = range(40)
    together = draw(sampler, *[request(row, seed=seed, num_samples=3) for seed in seeds]).samples.reshape(40, 3)
    for seed in seeds:
        assert together[seed].tolist() == draw(sampler, request(row, seed=seed, num_samples=3)).samples.tolist()


def test_one_row_of_many_draws_equals_many_requests(sampler):
    asked = request(np.random.default_rng(0).normal(size=1000), num_samples=70, seed=9)
    whole = draw(sampler, asked).samples.tolist()
    parts = [replace(asked, num_samples=7, draw_offset=7 * part) for part in range(10)]
    assert draw(sampler, *parts).samples.tolist() == whole


def test_a_masked_id_is_never_drawn(sampler):
    require(sampler, "SamplingParams.allowed_tokens", "SamplingParams.token_bitmask", "SamplingParams.logit_bias")
    row = np.zeros(100)
    row[:50] = 20.0
    allowed = np.array([60, 70, 80], np.int32)
    words = np.zeros(3, np.uint32)
    for token in allowed.tolist():
        words[token // 32] |= np.uint32(1 << token % 32)
    forbidden = np.array([token for token in range(100) if token not in allowed], np.int32)
    for fields in (
        {"allowed_tokens": allowed},
        {"token_bitmask": words.tobytes()},
        {"bias_ids": forbidden, "bias_values": np.full(len(forbidden), -np.inf, np.float32)},
    ):
        for temperature in (0.0, 1.0, 1e4):
            got = draw(sampler, request(row, params=params(temperature=temperature, **fields), num_samples=500))
            assert set(got.samples.tolist()) <= {60, 70, 80}


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 40},
        {"top_k": 300},
        {"top_p": 0.3},
        {"top_p": 0.95},
        {"min_p": 0.05},
        {"typical_p": 0.4},
        {"epsilon_cutoff": 0.0005},
        {"eta_cutoff": 0.001},
        {"top_n_sigma": 2.2},
        {"xtc_threshold": 0.002, "xtc_probability": 1.0},
        {"top_k": 100, "typical_p": 0.5, "eta_cutoff": 0.001},
        {"top_p": 0.9, "min_tokens_to_keep": 3000},
    ],
    ids="+".join,
)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_cut_within_or_beyond_the_head_of_a_large_row(sampler, fields, order):
    """V large enough that a sampler looks at the head of the order first, and must find out when that is too short."""
    require(sampler, *(f"SamplingParams.{name}" for name in fields))
    row = np.round(np.random.default_rng(8).normal(size=4096) * 16) / 8
    for seed in range(2):
        for with_replacement in (True, False):
            check(
                sampler,
                request(
                    row,
                    seed=seed,
                    num_samples=3,
                    with_replacement=with_replacement,
                    params=params(order=Order(order), temperature=0.9, **fields),
                    outputs=all_outputs(sampler, top_n=5, named=[0, 5]),
                ),
            )


@pytest.mark.parametrize("dtype", list(Dtype))
def test_the_tail_keeps_its_mass_in_every_dtype(sampler, dtype):
    """Half of the mass lies in 60,000 categories of a 120,000th each: sums must not lose them."""
    row = np.zeros(60_001)
    row[0] = np.round(np.log(60_000) * 128) / 128 if dtype in (Dtype.F32, Dtype.F64) else 11.0
    got = draw(sampler, request(row, dtype, num_samples=4000, seed=2))
    expected = 60_000 / (60_000 + np.exp(row[0]))
    share = float((got.samples > 0).mean())
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)
    assert np.median(got.samples[got.samples > 0]) == pytest.approx(30_000, abs=2_500)


@pytest.mark.slow
def test_a_vocabulary_beyond_2_to_the_24(sampler):
    """torch.multinomial stops at 2^24 categories; the last ones here must be drawn as often as any."""
    size = 2**24 + 3
    row = np.full(size, -np.inf, np.float16)
    row[-2:] = 0.0
    row[5] = 0.0
    asked = request(row, Dtype.F16, num_samples=300, seed=1)
    drawn, counts = np.unique(draw(sampler, asked).samples, return_counts=True)
    assert drawn.tolist() == [5, size - 2, size - 1]
    assert counts.min() > 60


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_top_k_of_candidates_is_decided_at_any_temperature_in_every_order(sampler, order, temperature):
    own = params(top_k=2, temperature=temperature, order=order)
    asked = sparse([0, 3, 7], [2.0, 1.5, 0.5], 0.0, 40, params=own, outputs=all_outputs(sampler), num_samples=5)
    assert check(sampler, asked)[0].reason == RowErrorReason.NONE


def test_min_tokens_to_keep_may_reach_what_candidates_do_not_tell(sampler):
    """Of ids 0, 1 and 5 the first two were sent: three are to be kept, so a third, which is not known."""
    require(sampler, "SampleRequest.candidates", "SamplingParams.allowed_tokens", "SamplingParams.min_tokens_to_keep")
    for least, reason in ((2, RowErrorReason.NONE), (3, RowErrorReason.OUTSIDE_CANDIDATES)):
        own = params(min_p=0.01, min_tokens_to_keep=least, allowed_tokens=np.array([0, 1, 5], np.int32))
        asked = sparse([0, 1, 2], [5.0, 4.9, -10.0], -12.0, 10, params=own)
        assert draw(sampler, asked).status.tolist() == [reason]
        check(sampler, asked)
