"""Classifier-free guidance: every sampler gives the same bits, and what no row may hold is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax as log_softmax_of_scipy

from samplerd_server.batching.row_errors import row_errors
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, RowErrorReason, Step
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.masses import shift_of
from samplerd_server.sampling.portable.guidance import guide as guide_by_torch
from samplerd_server.sampling.reference.guidance import guide, log_softmax
from tests.support.samplers import all_outputs, check, draw, encode, make_sampler, outputs, params, request

WEIGHTS = InputKind.PROBABILITIES


def by_torch(row: np.ndarray, guidance: np.ndarray, scale: float, *, is_weights: bool) -> np.ndarray:
    c, u = (torch.from_numpy(own.astype(np.float64))[None] for own in (row, guidance))
    scales = torch.tensor([[scale]], dtype=torch.float64)
    shifts = torch.tensor([[float(shift_of(len(row)))]], dtype=torch.float64)
    return guide_by_torch(c, u, scales, shifts, is_weights=is_weights)[0].numpy()


def by_numba(row: np.ndarray, guidance: np.ndarray, scale: float, *, is_weights: bool) -> np.ndarray:
    """What a thread's memory holds of the row once it is drawn from."""
    sampler = make_sampler("numba")
    assert isinstance(sampler, NumbaSampler)
    kind = WEIGHTS if is_weights else InputKind.LOGITS
    draw(sampler, request(row, kind=kind, params=params(guidance_scale=scale), guidance=encode(guidance)))
    return sampler._workspaces[0].full().x[: len(row)].astype(np.float64)


def rows(seed: int, *, is_weights: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of a random width and spread, in which some categories are impossible."""
    numbers = np.random.default_rng(seed)
    width, spread = int(numbers.integers(1, 3000)), float(numbers.uniform(0.1, 40))
    both = numbers.normal(0, spread, (2, width)).astype(np.float32)
    both[numbers.random((2, width)) < 0.1] = -np.inf
    both[:, 0] = 0.5
    return tuple(np.exp(both / 4) if is_weights else both)  # type: ignore[return-value]


@pytest.mark.parametrize("is_weights", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_every_sampler_gives_the_same_bits(seed, is_weights):
    c, u = rows(seed, is_weights=is_weights)
    scale = float(np.random.default_rng(seed).normal(1, 3))
    want = guide(c, u, scale, is_weights=is_weights)
    assert want.max() > -np.inf
    assert np.array_equal(want, by_torch(c, u, scale, is_weights=is_weights))
    assert np.array_equal(want, by_numba(c, u, scale, is_weights=is_weights))


@pytest.mark.parametrize("seed", range(10))
def test_the_formulas_are_those_of_the_paper(seed):
    c, u = rows(seed, is_weights=False)
    own, other = (log_softmax_of_scipy(row.astype(np.float64)) for row in (c, u))
    assert log_softmax(c.astype(np.float64)) == pytest.approx(own, abs=1e-9)
    is_possible = np.isfinite(own) & np.isfinite(other)
    law = other[is_possible] + 2.5 * (own[is_possible] - other[is_possible])
    got = guide(c, u, 2.5, is_weights=False)
    assert got[is_possible] == pytest.approx(law, rel=1e-7, abs=1e-8)
    assert (got[~is_possible] == -np.inf).all()


def test_the_sum_of_the_longest_rows_is_exact():
    width = 1 << 21  # as many masses of 2^43 are 2^64: the units are larger
    row = np.zeros(width, np.float32)
    got = by_torch(row, row, 3.0, is_weights=False)
    assert set(got.tolist()) == {float(np.float32(-21 * np.log(2)))}
    assert np.array_equal(got, by_numba(row, row, 3.0, is_weights=False))


@pytest.mark.parametrize("scale", [1e308, -1e308, 1e30])
def test_a_large_scale_saturates(scale):
    c, u = np.array([0.0, 1.0, 2.0], np.float32), np.array([2.0, 1.0, 0.0], np.float32)
    want = guide(c, u, scale, is_weights=False)
    assert np.isfinite(want.astype(np.float32)).all()
    assert np.array_equal(want, by_torch(c, u, scale, is_weights=False))
    assert np.array_equal(want, by_numba(c, u, scale, is_weights=False))


@pytest.mark.parametrize("scale", [-2.0, 0.0, 0.5, 1.5, 7.0])
@pytest.mark.parametrize("dtype", Dtype)
def test_what_either_row_forbids_stays_forbidden(sampler, scale, dtype):
    c, u = [-np.inf, 1.0, 2.0, -np.inf], [0.0, -np.inf, 1.0, -np.inf]
    asked = request(
        [c] * 2,
        dtype,
        params=params(guidance_scale=scale),
        guidance=encode([u] * 2, Dtype.BF16),
        num_samples=20,
        outputs=outputs(LogprobKind.SCALED),
    )
    check(sampler, asked)
    assert set(draw(sampler, asked).samples.tolist()) == {2}


FAULTS = [
    (np.nan, InputKind.LOGITS, RowErrorReason.NAN, "NaN at id 2 of the guidance row"),
    (np.inf, InputKind.LOGITS, RowErrorReason.POSITIVE_INFINITY, "at id 2 of the guidance row"),
    (-1.0, WEIGHTS, RowErrorReason.NEGATIVE_WEIGHT, "negative weight at id 2 of the guidance row"),
    (np.nan, WEIGHTS, RowErrorReason.NAN, "NaN at id 2 of the guidance row"),
]


@pytest.mark.parametrize(("bad", "kind", "reason", "words"), FAULTS)
@pytest.mark.parametrize("dtype", Dtype)
def test_a_fault_of_the_guidance_row_is_named(sampler, bad, kind, reason, words, dtype):
    good = np.array([1.0, 2.0, 3.0, 4.0])
    worse = np.array([1.0, 2.0, bad, bad])
    asked = request(
        [good, good, good],
        kind=kind,
        params=params(guidance_scale=2.0),
        guidance=encode([good, worse, good], dtype),
        outputs=all_outputs(sampler),
    )
    check(sampler, asked)
    got = draw(sampler, asked)
    (error,) = row_errors(asked, got, 0)
    assert (error.row, error.reason) == (1, reason)
    assert words in error.message


def test_a_number_beyond_float32_is_a_fault_of_the_guidance_row(sampler):
    asked = request(
        [[1.0, 2.0], [1.0, 2.0]],
        params=params(guidance_scale=2.0),
        guidance=encode([[1.0, -1e300], [0.0, -np.inf]], Dtype.F64),
    )
    check(sampler, asked)
    assert draw(sampler, asked).status.tolist() == [RowErrorReason.POSITIVE_INFINITY, 0]
    assert draw(sampler, asked).detail[0] == -2


def test_the_fault_of_the_row_itself_comes_first(sampler):
    asked = request([[1.0, np.nan]], params=params(guidance_scale=2.0), guidance=encode([[np.nan, 1.0]]))
    check(sampler, asked)
    assert draw(sampler, asked).detail[0] == 1


@pytest.mark.parametrize("kind", InputKind)
def test_the_step_that_leaves_nothing_is_named(sampler, kind):
    never = 0.0 if kind is WEIGHTS else -np.inf
    cases = {
        Step.INPUT: ([never, never], [1.0, 2.0]),
        Step.GUIDANCE: ([1.0, never], [never, 1.0]),
    }
    for step, (c, u) in cases.items():
        asked = request([c], kind=kind, params=params(guidance_scale=2.0), guidance=encode([u]))
        check(sampler, asked)
        got = draw(sampler, asked)
        assert (got.status[0], got.detail[0]) == (RowErrorReason.NOTHING_TO_DRAW, step)
    asked = request([[1.0, 2.0]], kind=kind, params=params(guidance_scale=2.0), guidance=encode([[never, never]]))
    check(sampler, asked)
    assert draw(sampler, asked).detail[0] == Step.GUIDANCE


def test_only_rows_whose_scale_is_not_one_use_their_guidance_row(sampler):
    numbers = np.random.default_rng(3).normal(size=(3, 30))
    bad = np.full((3, 30), np.nan)
    bad[1] = numbers[2]
    own = (params(top_k=9), params(guidance_scale=2.0), params())
    asked = request(numbers, params=own, guidance=encode(bad), num_samples=4, outputs=all_outputs(sampler))
    check(sampler, asked)
    assert (draw(sampler, asked).status == 0).all()


def test_a_row_does_not_depend_on_how_it_is_grouped(sampler):
    """Guided rows of two dtypes beside plain ones: the result of each is that of the row alone."""
    numbers = np.random.default_rng(4)
    asked = []
    for dtype in (Dtype.F32, Dtype.F16):
        for width in (33, 40):
            c, u = numbers.normal(0, 3, (2, 1, width))
            own = params(guidance_scale=1.7, top_k=7)
            more = {"seed": width, "num_samples": 3, "outputs": all_outputs(sampler)}
            asked += [request(c, params=own, guidance=encode(u, dtype), **more), request(c, **more)]
    together = draw(sampler, *asked)
    alone = [draw(sampler, one) for one in asked]
    assert together.samples.tolist() == [token for one in alone for token in one.samples.tolist()]
    for kind, values in together.logprobs.items():
        assert values.tobytes() == b"".join(one.logprobs[kind].tobytes() for one in alone)
