"""Filters by the kernels for a GPU in Triton's interpreter: what is kept, to the id, and every output, to the bit.

Rows have ties at their cuts, boundaries that only whole numbers decide alike, and any order of filters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, Order, TieRule
from samplerd_server.sampling.choose import choose_sampler
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import are_few, is_drawn
from samplerd_server.sampling.rows import new_results
from tests.support.gpu_rows import FEW, KEPT, KINDS, MIXED, NEVER, STEPS, WEIGHTS, compare, rows
from tests.support.samplers import make_sampler, outputs, params, request, sparse


def check(*asked: Any) -> Any:
    return compare(_draw, *asked)


def _draw(own: Any, results: Any) -> Any:
    assert is_drawn(own).all()
    return draw(own, results, launch)


def ask(x: Any, dtype: Dtype = Dtype.F32, **filters: Any) -> Any:
    kind = {"kind": filters.pop("kind")} if "kind" in filters else {}
    return request(x, dtype, seed=7, params=params(**filters), outputs=KEPT, **kind)


@settings(max_examples=3, deadline=None)
@given(rows(parameters=FEW, wanted=st.just(KEPT), most=2))
def test_what_top_k_keeps(batch) -> None:
    check(*(row.ask() for row in batch))


@settings(max_examples=3, deadline=None)
@given(rows(parameters=MIXED, wanted=st.just(KEPT), most=2, width=st.integers(1, 40)))
def test_what_any_filters_keep(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=30, deadline=None)
@given(rows(parameters=FEW, wanted=st.just(KEPT)))
def test_what_top_k_keeps_in_many_more_batches(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=40, deadline=None)
@given(
    rows(
        parameters=st.one_of(MIXED, st.tuples(MIXED, STEPS).map(lambda own: (*own[0], ("steps", own[1])))),
        wanted=st.just(KEPT),
    )
)
def test_what_any_filters_keep_in_many_more_batches(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
def test_wide_rows_and_many_kept() -> None:
    rng = np.random.default_rng(4)
    check(
        *(ask(rng.normal(size=2_000), top_k=k, top_p=0.95, temperature=1.3) for k in (700, 1_024, 1_025)),
        ask(np.zeros(3_000), top_k=1_024, min_p=0.5),
        ask(rng.normal(scale=3.0, size=32_768), Dtype.BF16, top_k=50, top_p=0.9),
        ask(rng.normal(scale=0.1, size=4_000), top_p=0.9),
        ask(rng.normal(scale=3.0, size=32_768), Dtype.F16, top_p=0.9, temperature=0.7),
        ask(rng.random(3_000), kind=WEIGHTS, typical_p=0.9, top_p=0.99),
    )


def test_rows_on_boundaries() -> None:
    """Ties at k and at p, and masses that make exactly what is asked for: rows of a textbook."""
    book = np.log([0.5, 0.3, 0.1, 0.1])
    check(
        *(ask(book, top_k=4, top_p=p) for p in (0.5, 0.8, 0.801)),
        *(ask(book, top_p=p) for p in (0.5, 0.8, 0.801)),
        ask(book, top_k=4, min_p=0.6),
        ask([0.5, 0.3, 0.1, 0.1], kind=WEIGHTS, top_p=0.8, epsilon_cutoff=0.3),
        ask([0.5, 0.3, 0.1, 0.1], kind=WEIGHTS, top_k=3, top_p=0.99, temperature=2.0),
        ask(np.ones(20), top_k=7),
        ask(np.ones(20), top_p=0.5, ties=TieRule.HIGHEST_ID),
        ask(np.ones(20), typical_p=0.5, ties=TieRule.HIGHEST_ID),
        ask([1.0, 2.0, NEVER], top_k=50),
        ask([0.0, 0.0, 1e-45], kind=WEIGHTS, top_k=2),
        ask([NEVER, NEVER], top_k=1),
        ask([NEVER, NEVER], top_p=0.5),
        ask([0.0, -0.0, 0.0], top_k=2),
        ask([1.0, np.nan], top_k=1),
        ask([1.0, np.inf], top_h=0.5),
        ask(book, top_p=0.6, order=Order.LLAMA_CPP, temperature=0.0),
    )


def test_a_batch_of_any_mix_is_eight_launches_at_most() -> None:
    launches: list[str] = []

    def count(kernel: Any, *_: Any) -> None:
        launches.append(kernel.__name__)

    few = [ask(np.zeros(width), top_k=5, top_p=p) for width in (1, 600, 40_000) for p in (0.5, 1.0)]
    batch = pack([request([0.0] * 9, seed=1), request(np.zeros(700), params=params(top_k=3), seed=2)])
    draw(batch.rows, new_results(batch), count)
    assert launches == ["measure", "select", "pick", "describe"]
    launches.clear()
    everything = outputs(*KINDS, entropy=KINDS, top_n=2, named=[0], rank=True, kept=True)
    others = [request(np.zeros(30), params=params(**own), outputs=everything, seed=3) for own in ({}, {"top_p": 0.5})]
    cold = request(np.zeros(30), params=params(temperature=0.0, typical_p=0.5), seed=4)
    batch = pack([*few, *others, cold])
    assert are_few(batch.rows).tolist() == [True] * len(few) + [False] * 3
    draw(batch.rows, new_results(batch), count)
    assert launches == ["measure", "select", "pick", "moments", "describe"]


def test_candidates_with_a_rest_are_left_to_the_compiled_kernels() -> None:
    own = params(top_k=1, top_p=0.9)
    batch = pack([request([1.0, 2.0], seed=1, params=own), sparse([1, 5], [1.0, 2.0], -3.0, 9, seed=1, params=own)])
    assert is_drawn(batch.rows).tolist() == [True, False]
    sampler = choose_sampler("interpret")
    sampler.warm_up()
    assert sampler.sample(batch).samples.tolist() == make_sampler("numba").sample(batch).samples.tolist()


def test_draws_in_parts_have_one_noise_of_xtc() -> None:
    """The draws of a row that are made in parts follow one decision of XTC, which is that of the first part."""
    batch = pack([request([1.0, 1.5, 2.0], seed=at, params=params(xtc_probability=0.5)) for at in range(16)])
    batch.rows["draw_offset"] += 7
    batch.rows["drawn"] = 7
    got = new_results(batch)
    draw(batch.rows, got, launch)
    want = make_sampler("numba").sample(batch).samples.tolist()
    assert got.samples.tolist() == want
    batch.rows["drawn"] = 0
    assert make_sampler("numba").sample(batch).samples.tolist() != want
