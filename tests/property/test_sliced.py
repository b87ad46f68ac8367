"""Long requests cut into slices: wherever they are cut, the joined answer is that of the whole request, to the bit."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.batching.sliced import SlicedDraft, SlicedSample
from samplerd_server.batching.ticket_batch import pack_drafts
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.request import SampleRequest, VerifyRequest
from samplerd_server.engine.device_thread import DeviceThread
from samplerd_server.sampling.rows import RowResults
from tests.support.cdf_index import by_name, store_rows
from tests.support.samplers import EVERYTHING, KINDS, encode, make_sampler, outputs, params, request, sparse

SAMPLERS = ("numba", "torch")
PARAMS = (
    params(),
    params(temperature=0.6),
    params(temperature=0.0),
    params(top_p=0.8),
    params(xtc_probability=0.5, xtc_threshold=0.05),
    params(guidance_scale=1.6, top_k=5),
    params(top_k=5, typical_p=0.9, min_tokens_to_keep=2),
    params(frequency_penalty=0.5, history=np.array([1, 2, 2], np.int32)),
    params(adaptive_target=0.2, adaptive_weighted_sum=1.5, adaptive_total_weight=4.0, top_k=5),
)
OUTPUTS = (
    outputs(),
    outputs(*KINDS),
    EVERYTHING,
    replace(EVERYTHING, top_n=4, logprob_ids=np.array([0, 3], np.int32)),
    outputs(KINDS[0], top_n=2),
)


@st.composite
def requests(draw) -> SampleRequest:
    rows, width = draw(st.integers(1, 5)), draw(st.sampled_from([6, 40, 700]))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(rows, width))
    if draw(st.integers(0, 3)) == 0:
        numbers[draw(st.integers(0, rows - 1)), draw(st.integers(0, width - 1))] = np.nan
    kind = draw(st.sampled_from(InputKind))
    asked = request(
        np.exp(numbers) if kind == InputKind.PROBABILITIES else numbers,
        draw(st.sampled_from(Dtype)),
        kind=kind,
        guidance=encode(np.abs(numbers[:, ::-1]), draw(st.sampled_from(Dtype))),
        params=tuple(draw(st.sampled_from(PARAMS)) for _ in range(draw(st.sampled_from([1, rows])))),
        num_samples=draw(st.integers(1, 12)),
        with_replacement=draw(st.booleans()),
        seed=draw(st.integers(0, 2**64 - 1)),
        row_seeds=np.arange(rows, dtype=np.uint64) if draw(st.booleans()) else None,
        outputs=draw(st.sampled_from(OUTPUTS)),
    )
    return replace(asked, draw_offset=draw(st.sampled_from([0, 7, 2**63]))) if asked.with_replacement else asked


def run(sliced, budgets, sampler) -> int:
    """Run all slices, whose sizes follow `budgets` round and round; returns how many there were."""
    device, count = DeviceThread(make_sampler(sampler)), 0
    while not sliced.is_done:
        left = sliced.work_left
        outcome = device.run(sliced.cut(budgets[count % len(budgets)]))
        assert not outcome.has_failed
        assert sliced.cut_work > 0
        sliced.accept(outcome.results)
        assert sliced.work_left <= left
        count += 1
    assert sliced.work_left == 0
    return count


def same(got: RowResults, want: RowResults) -> None:
    for field in fields(RowResults):
        a, b = getattr(got, field.name), getattr(want, field.name)
        if isinstance(b, dict):
            assert a.keys() == b.keys(), field.name
            for kind in b:
                assert a[kind].tobytes() == b[kind].tobytes(), (field.name, kind)
        elif b is None:
            assert a is None
        else:
            assert a.tobytes() == b.tobytes(), field.name


budgets = st.lists(st.sampled_from([1.0, 900.0, 2_000.0, 20_000.0]), min_size=1, max_size=3)


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(asked=requests(), budgets=budgets, most_draws=st.sampled_from([0, 3]))
def test_slices_draw_what_the_whole_request_draws(sampler, asked, budgets, most_draws):
    sliced = SlicedSample(asked, most_draws)
    run(sliced, budgets, sampler)
    same(sliced.results, make_sampler(sampler).sample(pack([asked])))


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(draws=st.integers(1, 40), seed=st.integers(0, 50), rest=st.sampled_from([-np.inf, 0.5]))
def test_a_row_that_fails_in_a_later_slice_fails_as_a_whole(sampler, draws, seed, rest):
    # With a rest, a draw may fall outside the candidates: some slices succeed, a later one does not.
    asked = sparse(
        [3, 5, 8], [2.0, 1.5, 1.0], rest, 20, num_samples=draws, seed=seed, outputs=outputs(KINDS[0], rank=True)
    )
    sliced = SlicedSample(asked)
    run(sliced, [1.0], sampler)
    same(sliced.results, make_sampler(sampler).sample(pack([asked])))


def test_the_smallest_slices_are_single_rows_and_single_draws():
    asked = request(np.zeros((3, 6)), num_samples=4, params=params(top_p=0.5))
    assert run(SlicedSample(asked), [1.0], "numba") == 3 * 4
    assert run(SlicedSample(replace(asked, num_samples=1)), [1.0], "numba") == 3
    assert run(SlicedSample(asked), [1e9], "numba") == 1


def test_no_slice_is_priced_above_its_budget_unless_it_is_one_row_or_reads_one_row_for_its_draws():
    asked = request(np.zeros((50, 2_000)), num_samples=3)
    sliced, device, rows = SlicedSample(asked), DeviceThread(make_sampler("numba")), []
    while not sliced.is_done:
        packed = sliced.cut(20_000.0)
        rows.append(len(packed))
        assert sliced.cut_work <= 20_000.0
        sliced.accept(device.run(packed).results)
    assert min(rows[:-1]) == max(rows) > 1


@given(
    rows=st.integers(1, 4),
    draws=st.integers(1, 500),
    budget=st.sampled_from([1.0, 500.0, 9_000.0]),
    first=st.integers(0, 9),
)
def test_draws_by_a_cdf_index_are_cut_too(rows, draws, budget, first):
    numbers = np.random.default_rng(rows).normal(size=(rows, 300))
    stored = request(numbers)
    asked = by_name(request(numbers, num_samples=draws, seed=4, draw_offset=first), store_rows(stored))
    assert asked.cdf_index is not None
    sliced = SlicedSample(asked)
    run(sliced, [budget], "numba")
    same(sliced.results, make_sampler("numba").sample(pack([replace(asked, cdf_index=None)])))


@st.composite
def drafts(draw) -> VerifyRequest:
    n, width = draw(st.integers(1, 7)), draw(st.sampled_from([3, 30]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    numbers = rng.normal(size=(n + 1, width)) * draw(st.sampled_from([0.1, 3.0]))
    if draw(st.integers(0, 3)) == 0:
        numbers[draw(st.integers(0, n)), 0] = np.nan
    target = request(
        numbers, seed=draw(st.integers(0, 99)), params=draw(st.sampled_from(PARAMS[:5])), work=1000 * (n + 1)
    )
    weights = request(np.exp(numbers[:n] + rng.normal(size=(n, width)) * 0.1)).source if draw(st.booleans()) else None
    likely = np.nan_to_num(numbers[:n], nan=0.0).argmax(axis=1).astype(np.int32)
    ids = likely if draw(st.booleans()) else rng.integers(0, width, n).astype(np.int32)
    if weights is not None and np.isnan(numbers[:n]).any():
        weights = None
    is_tree = draw(st.booleans())
    parents = np.array([draw(st.integers(-1, j - 1)) if is_tree else j - 1 for j in range(n)], np.int32)
    return VerifyRequest(id=1, target=target, draft_ids=ids, parents=parents, draft=weights)


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(asked=drafts(), budgets=st.lists(st.sampled_from([1.0, 2_500.0, 1e9]), min_size=1, max_size=3))
def test_a_draft_that_is_cut_gets_the_verdict_of_the_whole(sampler, asked, budgets):
    sliced = SlicedDraft(asked)
    run(sliced, budgets, sampler)
    assert sliced.results == DeviceThread(make_sampler(sampler)).run(pack_drafts([asked])).results
