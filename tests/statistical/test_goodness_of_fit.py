"""Do draws follow the law? Chi-square against the exact probabilities of the reference, with every number stated.

Null, everywhere: the samples are independent draws from softmax(x / T) (or, without replacement, ordered tuples by the
Plackett-Luce law). alpha = 1e-4 for each test. Seeds are fixed, so that a failure is a change of the sampler and never
bad luck. Categories expected fewer than 10 times are pooled.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.sampling.decode import decode
from samplerd_server.sampling.reference import pipeline as reference
from samplerd_server.sampling.thresholds import thresholds
from tests.support.cdf_index import by_name, draw_indexed, store_rows
from tests.support.samplers import draw, encode, params, request, require

ALPHA = 1e-4


def fits(samples: np.ndarray, probabilities: np.ndarray) -> bool:
    """Chi-square at ALPHA, rare categories pooled in blocks of neighbours that expect 10 draws at least.

    A draw of what has no probability does not fit, however many others do.
    """
    n = len(samples)
    if (probabilities[samples] == 0).any():
        return False
    counts = np.bincount(samples, minlength=len(probabilities)).astype(float)
    blocks = np.floor(np.cumsum(probabilities) * n / 10 + 1e-9)
    block = np.minimum(blocks, blocks.max() - 1) if blocks.max() > 0 else blocks
    _, at = np.unique(block, return_inverse=True)
    observed, expected = np.bincount(at, counts), np.bincount(at, probabilities * n)
    enough = expected >= 5
    observed = np.append(observed[enough], observed[~enough].sum())
    expected = np.append(expected[enough], expected[~enough].sum())
    used = expected > 0
    return chisquare(observed[used], expected[used] * observed[used].sum() / expected[used].sum()).pvalue > ALPHA


def softmax(row: np.ndarray, temperature: float) -> np.ndarray:
    scaled = (row - row.max()) / temperature
    masses = np.exp(scaled)
    return masses / masses.sum()


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 2.0, 10.0])
def test_draws_with_replacement_follow_softmax_at_every_temperature(sampler, temperature):
    """n = 100,000 draws of one row, V = 50, seed 1."""
    row = np.round(np.random.default_rng(7).normal(size=50) * 16) / 8
    asked = request(row, params=params(temperature=temperature), num_samples=100_000, seed=1)
    assert fits(draw(sampler, asked).samples, softmax(row, temperature))


@pytest.mark.parametrize("vocab_size", [2, 3, 513, 32_768, 131_072])
def test_draws_follow_softmax_at_every_size(sampler, vocab_size):
    """n = 200,000 draws of one row, seed 2."""
    row = np.round(np.random.default_rng(8).normal(size=vocab_size) * 16) / 8
    asked = request(row, num_samples=200_000, seed=2)
    assert fits(draw(sampler, asked).samples, softmax(row, 1.0))


@pytest.mark.parametrize("dtype", list(Dtype))
def test_draws_follow_softmax_of_every_dtype(sampler, dtype):
    """n = 100,000 draws of one row, V = 1,000, seed 3; the law is that of the numbers as stored."""
    source = encode(np.random.default_rng(9).normal(size=1_000) * 3, dtype)
    row = decode(source.data, dtype).astype(float)
    assert fits(draw(sampler, request(row, dtype, num_samples=100_000, seed=3)).samples, softmax(row, 1.0))


def test_weights_follow_themselves(sampler):
    """n = 100,000 draws of weights 1 .. 40, some zero, seed 4."""
    weights = np.arange(40.0) * (np.arange(40) % 3 > 0)
    asked = request(weights, kind=InputKind.PROBABILITIES, num_samples=100_000, seed=4)
    assert fits(draw(sampler, asked).samples, weights / weights.sum())


def test_seeds_are_as_good_as_draws(sampler):
    """n = 20,000 rows of one draw each, row seeds 0 .. n-1, V = 20: neighbouring seeds are independent."""
    row = np.round(np.random.default_rng(10).normal(size=20) * 8) / 8
    asked = request(np.tile(row, (20_000, 1)), row_seeds=np.arange(20_000, dtype=np.uint64))
    assert fits(draw(sampler, asked).samples, softmax(row, 1.0))


def test_rows_of_one_request_are_independent(sampler):
    """n = 20,000 pairs (row i, row i + 1) under one seed, V = 4: the pairs follow the product law."""
    row = np.log([4.0, 3.0, 2.0, 1.0])
    samples = draw(sampler, request(np.tile(row, (40_000, 1)), seed=6)).samples.reshape(-1, 2)
    law = np.outer([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]).ravel()
    assert fits(samples[:, 0] * 4 + samples[:, 1], law)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_ordered_triples_without_replacement_follow_plackett_luce(sampler, temperature):
    """n = 30,000 triples of V = 5, seed 7: all 60 ordered outcomes against their products of conditionals."""
    row = np.array([2.0, 1.0, 0.5, 0.0, -1.0])
    p = softmax(row, temperature)
    asked = request(
        np.tile(row, (30_000, 1)),
        params=params(temperature=temperature),
        num_samples=3,
        with_replacement=False,
        seed=7,
    )
    triples = draw(sampler, asked).samples.reshape(-1, 3)
    outcomes = list(permutations(range(5), 3))
    law = np.array([p[a] * p[b] / (1 - p[a]) * p[c] / (1 - p[a] - p[b]) for a, b, c in outcomes])
    index = {outcome: at for at, outcome in enumerate(outcomes)}
    assert law.sum() == pytest.approx(1)
    assert fits(np.array([index[tuple(triple)] for triple in triples.tolist()]), law)


def test_filtered_draws_follow_the_renormalised_law(sampler):
    """n = 50,000 draws of weights 1 .. 9 with top_k = 6 and top_p = 0.8, seed 8."""
    require(sampler, "SamplingParams.top_k", "SamplingParams.top_p")
    weights = np.arange(1.0, 10.0)
    kept = weights * (weights >= 6)  # of 9+8+7+6+5+4 = 39, the first 9+8+7 = 24 are short of 31.2, 30 too, 35 is not
    kept[4] = 5.0
    asked = request(
        weights, kind=InputKind.PROBABILITIES, params=params(top_k=6, top_p=0.8), num_samples=50_000, seed=8
    )
    assert fits(draw(sampler, asked).samples, kept / kept.sum())


@pytest.mark.parametrize("name", thresholds(exp=math.exp, sqrt=math.sqrt, minimum=min))
@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_draws_follow_the_law_of_every_threshold(sampler, name, temperature):
    """n = 50,000 draws of normal logits, V = 200, seed 9; the law is what the reference keeps, renormalised."""
    row = np.random.default_rng(12).normal(0, 3, 200).astype(np.float32)
    asked = request(row, params=params(temperature=temperature, **{name: 0.01}), num_samples=50_000, seed=9)
    (want,) = reference.sample(replace(asked, num_samples=1))
    assert want.processed is not None
    assert 1 < want.kept_count < 200
    law = np.zeros(200)
    law[want.processed.ids] = want.processed.own
    samples = draw(sampler, asked).samples
    assert law[samples].min() > 0
    assert fits(samples, law / law.sum())


@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.7, 1.5, 3.0])
def test_guided_draws_follow_their_law(sampler, scale):
    """n = 100,000 draws at T = 1.3, V = 300, seed 10; the law is softmax((u + scale (c - u)) / T) of log_softmax."""
    both = np.round(np.random.default_rng(13).normal(size=(2, 300)) * 16) / 8
    c, u = (row - np.log(np.exp(row).sum()) for row in both)
    asked = request(
        both[0],
        params=params(guidance_scale=scale, temperature=1.3),
        guidance=encode(both[1]),
        num_samples=100_000,
        seed=10,
    )
    assert fits(draw(sampler, asked).samples, softmax(u + scale * (c - u), 1.3))


@pytest.mark.slow
def test_categories_of_zero_probability_are_never_drawn(sampler):
    """10,000,000 draws over three rows in which every other category is impossible: not one may be drawn."""
    numbers = np.random.default_rng(11)
    logits = np.where(np.arange(4096) % 2, numbers.normal(size=4096) * 5, -np.inf)
    weights = np.where(np.arange(1000) % 2, numbers.random(1000) * 1e-3, 0.0)
    edges = np.array([0.0, 1e-30, 1.0, 1e-30, 0.0, 0.0])
    for row, kind in ((logits, InputKind.LOGITS), (weights, InputKind.PROBABILITIES)):
        counts = np.zeros(len(row), np.int64)
        for part in range(5):
            asked = request(row, kind=kind, num_samples=900_000, seed=12, draw_offset=900_000 * part)
            counts += np.bincount(draw(sampler, asked).samples, minlength=len(row))
        assert counts[::2].sum() == 0
        assert counts.sum() == 4_500_000
    asked = request(edges, kind=InputKind.PROBABILITIES, num_samples=1_000_000, seed=13)
    assert set(draw(sampler, asked).samples.tolist()) <= {1, 2, 3}


# Tables: the same null, on rows that stay. One seed a case, n = 400,000.


@pytest.mark.parametrize("width", [3, 17, 600, 5000])
@pytest.mark.parametrize("kind", InputKind)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_draws_by_a_cdf_index(width, kind, temperature):
    row = np.random.default_rng(width).normal(0, 2, width)
    numbers = np.exp(row) if kind is InputKind.PROBABILITIES else row
    asked = request(
        numbers[None, :], params=params(temperature=temperature), kind=kind, num_samples=400_000, seed=1000 + width
    )
    segment = store_rows(asked)
    samples = draw_indexed(by_name(asked, segment))
    assert fits(samples, softmax(numbers_as_kept(row), temperature))


def numbers_as_kept(row: np.ndarray) -> np.ndarray:
    """The logits as float32 keeps them."""
    return row.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("own", [{"top_k": 7}, {"top_p": 0.8, "temperature": 1.5}, {"min_p": 0.05}], ids=str)
def test_draws_by_a_cdf_index_of_what_filters_keep(own):
    row = np.random.default_rng(5).normal(0, 2, 500).astype(np.float32)
    asked = request(row[None, :], params=params(**own), num_samples=400_000, seed=77)
    (want,) = reference.sample(replace(asked, num_samples=1))
    assert want.processed is not None
    law = np.zeros(500)
    law[want.processed.ids] = want.processed.own
    samples = draw_indexed(by_name(asked, store_rows(asked)))
    assert fits(samples, law / law.sum())


# Without replacement in long rows: the tree of sums has levels there, and sums are made anew.


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (3, 600, 1030, 1040), (15, 16, 127, 128)], ids=str)
@pytest.mark.parametrize("depth", [0.0, 700.0], ids=["beside one another", "below 1e-300"])
def test_ordered_triples_of_long_rows_follow_plackett_luce(sampler, places, depth):
    """n = 6,000 triples of 4 categories in a row of V = 1,100, seed 15: all 24 ordered outcomes.

    With a depth a fifth category is drawn first, beside which the others' masses are below 1e-300.
    """
    own = np.array([1.0, 0.5, 0.0, -1.0])
    row = np.full(1100, -np.inf)
    row[list(places)] = own - depth
    row[1099] = 0.0 if depth else -np.inf
    first = 1 if depth else 0
    asked = request(np.tile(row, (6000, 1)), num_samples=3 + first, with_replacement=False, seed=15)
    drawn = draw(sampler, asked).samples.reshape(-1, 3 + first)
    assert not depth or (drawn[:, 0] == 1099).all()
    p = softmax(own, 1.0)
    outcomes = list(permutations(range(4), 3))
    law = np.array([p[a] * p[b] / (1 - p[a]) * p[c] / (1 - p[a] - p[b]) for a, b, c in outcomes])
    index = {tuple(places[i] for i in outcome): at for at, outcome in enumerate(outcomes)}
    assert fits(np.array([index[tuple(triple)] for triple in drawn[:, first:].tolist()]), law)


SHAPE_ROW = np.round(np.random.default_rng(31).normal(size=60) * 12) / 8


def test_smoothed_draws_follow_the_bent_logits(sampler):
    """n = 100,000 draws of one row, V = 60, seed 31; the law is text-generation-webui's, with k = s = 1/2."""
    fields = {"temperature": 0.8, "smoothing_factor": 0.3, "smoothing_curve": 2.0}
    d = (SHAPE_ROW - SHAPE_ROW.max()) / 0.8
    asked = request(SHAPE_ROW, params=params(**fields), num_samples=100_000, seed=31)
    assert fits(draw(sampler, asked).samples, softmax(-0.15 * d**2 + 0.15 * d**3, 1.0))


@pytest.mark.parametrize("skew", [-0.9, 0.7])
def test_skewed_draws_follow_the_powers_of_cumulative_probabilities(sampler, skew):
    """n = 100,000 draws of one row, V = 60, seed 32; the law is exllamav2's: the first with c > u^(e^-skew)."""
    order = np.lexsort((np.arange(60), -SHAPE_ROW))
    law = np.zeros(60)
    law[order] = np.diff(np.cumsum(softmax(SHAPE_ROW, 1.0)[order]) ** math.exp(skew), prepend=0.0)
    asked = request(SHAPE_ROW, params=params(skew=skew), num_samples=100_000, seed=32)
    assert fits(draw(sampler, asked).samples, law / law.sum())


def test_adaptive_draws_follow_the_logits_of_their_probabilities(sampler):
    """n = 100,000 draws of one row, V = 60, seed 33; the law is llama.cpp's, at a target moved from 0.1 to 0.08."""
    fields = {"adaptive_target": 0.1, "adaptive_weighted_sum": 0.6, "adaptive_total_weight": 5.0}
    d = np.abs(softmax(SHAPE_ROW, 1.0) - 0.08) / 0.3
    asked = request(SHAPE_ROW, params=params(**fields), num_samples=100_000, seed=33)
    assert fits(draw(sampler, asked).samples, softmax(5 - 10 * d * d / (1 + d), 1.0))


def test_top_h_draws_follow_what_it_keeps(sampler):
    """n = 100,000 draws of one row, V = 60, seed 34; kept is what adds at most half of the entropy."""
    p = softmax(SHAPE_ROW, 1.0)
    order = np.lexsort((np.arange(60), -p))
    terms = np.cumsum((-p * np.log(p))[order])
    kept = order[terms <= terms[-1] / 2]
    law = np.zeros(60)
    law[kept] = p[kept] / p[kept].sum()
    assert 5 < len(kept) < 50
    asked = request(SHAPE_ROW, params=params(top_h=0.5), num_samples=100_000, seed=34)
    assert fits(draw(sampler, asked).samples, law)
