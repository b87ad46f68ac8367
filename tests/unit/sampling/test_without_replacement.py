"""Draws without replacement by the compiled sampler: rows that are hard on sums, against float64; cutting; order."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, RowErrorReason
from samplerd_server.sampling.decode import decode
from samplerd_server.sampling.noise import uniform
from samplerd_server.sampling.resumed import ResumedDraw
from tests.support.samplers import all_outputs, check, draw, encode, make_sampler, outputs, params, request, sparse

if TYPE_CHECKING:
    from samplerd_server.sampling.rows import RowResults

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def compiled():
    return make_sampler("numba")


def follow(row: np.ndarray, temperature: float, samples: list[int], seed: int) -> int:
    """Hold draws against the law in float64, each given those before it. Returns how many are not the exact ones.

    A draw may differ from the exact one only where its uniform lies within TOLERANCE of a boundary.
    """
    left, differing = row > -np.inf, 0
    for d, sample in enumerate(samples):
        assert left[sample], f"draw {d} was drawn before, or has no mass"
        with np.errstate(over="ignore", under="ignore"):
            masses = np.where(left, np.exp((row - row[left].max()) / temperature), 0.0)
        sums = np.cumsum(masses)
        u = uniform(seed, d, 0)
        exact = int(np.flatnonzero((sums > u * sums[-1]) & (masses > 0))[0])
        if sample != exact:
            differing += 1
            low, high = (sums[sample] - masses[sample]) / sums[-1], sums[sample] / sums[-1]
            assert low - TOLERANCE <= u <= high + TOLERANCE, f"draw {d}"
        left[sample] = False
    return differing


def normal(numbers: np.random.Generator, size: int) -> np.ndarray:
    return numbers.normal(0, 1, size)


def wide(numbers: np.random.Generator, size: int) -> np.ndarray:
    """Masses from 1 to 1e-300 and below."""
    return numbers.uniform(-700, 0, size)


def steps(numbers: np.random.Generator, size: int) -> np.ndarray:
    """No two within the range of a double."""
    return -1000.0 * numbers.permutation(size)


def equal(_: np.random.Generator, size: int) -> np.ndarray:
    return np.zeros(size)


def ties(numbers: np.random.Generator, size: int) -> np.ndarray:
    return numbers.integers(-3, 4, size) * 40.0


def holes(numbers: np.random.Generator, size: int) -> np.ndarray:
    return np.where(numbers.random(size) < 0.9, -np.inf, numbers.normal(0, 50, size))


def huge(numbers: np.random.Generator, size: int) -> np.ndarray:
    return numbers.normal(0, 1e37, size)


def one_beside_many(numbers: np.random.Generator, size: int) -> np.ndarray:
    """One that weighs more than all others together, 2^40 times as much as each."""
    row = numbers.uniform(-28.5, -27.5, size)
    row[size // 2] = 0.0
    return row


@pytest.mark.parametrize("make", [normal, wide, steps, equal, ties, holes, huge, one_beside_many])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 1e-8, 1e4, 1e-300])
def test_all_of_a_row_in_the_order_of_the_law(compiled, make, temperature):
    for size in (1, 17, 511, 513, 1500):
        numbers = np.random.default_rng(size)
        row = make(numbers, size).astype(np.float32).astype(np.float64)
        draws = max(1, int((row > -np.inf).sum()))
        row[0] = 1.0 if draws == 1 else row[0]
        asked = request(
            row, params=params(temperature=temperature), num_samples=draws, with_replacement=False, seed=size
        )
        got = draw(compiled, asked)
        assert got.status[0] == RowErrorReason.NONE
        assert follow(row, temperature, got.samples.tolist(), size) <= 1


def test_more_levels_than_a_short_row_has(compiled):
    """V = 40,000 has three levels of nodes; the first 3,000 draws, and all of them as a set."""
    row = np.random.default_rng(2).normal(0, 3, 40_000).astype(np.float32)
    asked = request(row, num_samples=40_000, with_replacement=False, seed=9)
    samples = draw(compiled, asked).samples
    assert follow(row.astype(np.float64), 1.0, samples[:3000].tolist(), 9) <= 1
    assert np.array_equal(np.sort(samples), np.arange(40_000))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1e-8, 50.0])
def test_all_weights_from_the_smallest_to_the_largest_of_binary32(compiled, temperature):
    numbers = np.random.default_rng(4)
    with np.errstate(under="ignore"):
        weights = np.where(numbers.random(2000) < 0.3, 0, 10.0 ** numbers.uniform(-44, 38, 2000)).astype(np.float32)
    asked = request(
        weights,
        params=params(temperature=temperature),
        kind=InputKind.PROBABILITIES,
        num_samples=int((weights > 0).sum()),
        with_replacement=False,
        seed=5,
    )
    with np.errstate(divide="ignore"):
        row = np.log(weights.astype(np.float64))
    assert follow(row, temperature, draw(compiled, asked).samples.tolist(), 5) <= 1


@pytest.mark.parametrize("dtype", list(Dtype))
def test_every_dtype(compiled, dtype):
    source = encode(np.random.default_rng(6).normal(size=2500) * 4, dtype)
    row = decode(source.data, dtype).astype(np.float64)
    asked = request(row, dtype, num_samples=2500, with_replacement=False, seed=8)
    assert follow(row, 1.0, draw(compiled, asked).samples.tolist(), 8) <= 1


@pytest.mark.parametrize("make", [normal, wide, equal, steps])
def test_more_draws_begin_with_the_same(compiled, make):
    row = make(np.random.default_rng(1), 3000)
    few, more, all_ = (
        draw(compiled, request(row, num_samples=draws, with_replacement=False, seed=3)).samples.tolist()
        for draws in (5, 700, 3000)
    )
    assert all_[:5] == few
    assert all_[:700] == more


def test_too_few_says_how_many_there_are(compiled):
    row = holes(np.random.default_rng(3), 5000)
    got = draw(compiled, request(row, num_samples=5000, with_replacement=False))
    assert got.status[0] == RowErrorReason.TOO_FEW_TO_DRAW
    assert got.detail[0] == (row > -np.inf).sum()
    assert (got.samples == -1).all()


@pytest.mark.parametrize("kind", list(InputKind))
def test_greedy_rows_give_the_largest_in_order(compiled, kind):
    for size in (1, 17, 513, 5000):
        row = np.random.default_rng(size).integers(1, 20, size).astype(np.float32)
        asked = request(
            row, params=params(temperature=0.0), kind=kind, num_samples=size, with_replacement=False, seed=1
        )
        assert np.array_equal(draw(compiled, asked).samples, np.lexsort((np.arange(size), -row)))


@pytest.mark.parametrize("own", [{}, {"top_k": 900, "min_tokens_to_keep": 3}, {"top_p": 0.9}], ids=str)
def test_logprobs_are_conditional(compiled, own):
    row = np.random.default_rng(7).normal(0, 6, 1300).astype(np.float32)
    asked = request(
        row, params=params(**own), num_samples=60, with_replacement=False, seed=4, outputs=outputs(*LogprobKind)
    )
    check(compiled, asked)


def test_candidates_whose_rest_is_reached(compiled):
    """Draws go on until one falls on what was not sent: that, the reference decides at the same draw."""
    for seed in range(40):
        check(
            compiled,
            sparse([7, 3, 11, 5], [0.0, -1.0, -2.0, -3.0], -4.0, 100, num_samples=3, with_replacement=False, seed=seed),
        )


# In slices: what a long request's draws are cut into.


@pytest.fixture(scope="module", params=["numba", "torch"])
def sampler(request):
    return make_sampler(request.param)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"top_k": 900, "min_tokens_to_keep": 3},
        {"temperature": 0.0},
        {"history": np.arange(9, dtype=np.int32), "presence_penalty": 1.5},
    ],
    ids=["plain", "filtered", "greedy", "penalised"],
)
@pytest.mark.parametrize("slices", [[1, 2, 31, 32, 33, 100], [64], [1000]], ids=str)
def test_draws_in_slices_are_those_of_one_go(sampler, own, slices):
    """Every output, with other rows drawn in between, which use the same thread's memory."""
    numbers = np.random.default_rng(11)
    row, other = numbers.normal(0, 5, 1300).astype(np.float32), numbers.normal(0, 5, 1400).astype(np.float32)
    asked = request(
        row,
        params=params(**own),
        num_samples=700,
        with_replacement=False,
        seed=4,
        outputs=all_outputs(sampler, top_n=5),
    )
    disturbance = request(other, params=params(top_k=40), num_samples=20, with_replacement=False, seed=5)
    whole, resumed = draw(sampler, asked), ResumedDraw(pack([asked]))
    cuts, got = [*slices, *[slices[-1]] * 700], sampler.resume(resumed)
    while got is None:
        draw(sampler, disturbance)
        resumed.draws = cuts.pop(0)
        got = sampler.resume(resumed)
    for name, value in vars_of(whole).items():
        assert np.array_equal(value, vars_of(got)[name], equal_nan=True), name


def test_torch_makes_few_draws_in_a_slice():
    """Slices are priced by the compiled sampler; torch takes a thousand times as long, and says how far it got."""
    own, got = make_sampler("torch"), None
    asked = request(np.zeros(200, np.float32), params=params(), num_samples=150, with_replacement=False, seed=4)
    resumed, made = ResumedDraw(pack([asked])), []
    while got is None:
        resumed.draws = 100_000
        got = own.resume(resumed)
        made.append(resumed.draws)
    assert made == [100_000, 32, 32, 32, 32, 32]
    assert np.array_equal(got.samples, draw(own, asked).samples)


def vars_of(results: RowResults) -> dict[str, np.ndarray]:
    """All arrays of an answer by name."""
    found = {}
    for name in (field.name for field in fields(results)):
        value = getattr(results, name)
        arrays = value.items() if isinstance(value, dict) else [("", value)]
        found |= {f"{name} {kind}": array for kind, array in arrays if array is not None}
    return found


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ([0.0] * 600 + [np.nan], RowErrorReason.NAN, 600),
        ([-np.inf] * 600, RowErrorReason.NOTHING_TO_DRAW, 0),
        ([-np.inf] * 600 + [1.0, 2.0], RowErrorReason.TOO_FEW_TO_DRAW, 2),
    ],
    ids=["nan", "nothing", "too few"],
)
@pytest.mark.parametrize("own", [{}, {"top_k": 5}], ids=str)
def test_a_row_that_fails_in_slices_fails_as_in_one_go(sampler, row, reason, detail, own):
    asked = request(row, params=params(**own), num_samples=4, with_replacement=False)
    resumed, got = ResumedDraw(pack([asked])), None
    while got is None:
        resumed.draws = 1
        got = sampler.resume(resumed)
    whole = draw(sampler, asked)
    assert (got.status[0], got.detail[0]) == (reason, detail) == (whole.status[0], whole.detail[0])
    assert (got.samples == -1).all()
