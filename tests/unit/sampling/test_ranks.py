"""Ranks of many draws, which one pass over the row gives, beside those of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_server.core.enums import InputKind
from tests.support.samplers import check, make_sampler, outputs, params, request, sparse

DRAWS = 200
"""More than are ranked one by one."""


@pytest.mark.parametrize("with_replacement", [True, False])
@pytest.mark.parametrize(
    "own",
    [
        params(),
        params(top_p=0.9),
        params(temperature=0.0),
        params(frequency_penalty=1.0, history=np.arange(9, dtype=np.int32)),
    ],
)
@pytest.mark.parametrize("kind", InputKind)
def test_ranks_of_many_draws(own, kind, with_replacement):
    numbers = np.random.default_rng(3).normal(size=(2, 1_500))
    asked = request(
        np.exp(numbers) if kind == InputKind.PROBABILITIES else numbers,
        params=own,
        kind=kind,
        num_samples=DRAWS,
        with_replacement=with_replacement,
        outputs=outputs(rank=True),
        seed=5,
    )
    check(make_sampler("numba"), asked)


def test_equal_numbers_are_ranked_by_id_and_minus_zero_is_zero():
    numbers = np.resize(np.array([0.0, -0.0, 1.0, 1.0, -1.0]), 400)
    asked = request(numbers, num_samples=DRAWS, outputs=outputs(rank=True), seed=2)
    check(make_sampler("numba"), asked)


def test_ranks_among_candidates():
    ids = np.arange(0, 600, 3)
    asked = sparse(
        ids.tolist(), np.sin(ids).tolist(), -np.inf, 600, num_samples=DRAWS, outputs=outputs(rank=True), seed=8
    )
    check(make_sampler("numba"), asked)
    unknown = sparse(
        ids.tolist(), np.sin(ids).tolist(), -3.0, 600, num_samples=DRAWS, outputs=outputs(rank=True), seed=9
    )
    check(make_sampler("numba"), unknown)


def test_a_row_after_a_ranked_one_is_not_affected():
    numbers = np.random.default_rng(4).normal(size=(3, 700))
    own = params(frequency_penalty=2.0, history=np.arange(50, dtype=np.int32))  # uses the memory that ranks use
    asked = request(numbers, params=(params(), own, params()), num_samples=DRAWS, outputs=outputs(rank=True), seed=1)
    check(make_sampler("numba"), asked)
