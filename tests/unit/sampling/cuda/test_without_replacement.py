"""Draws without replacement by the kernels for a GPU in Triton's interpreter: every id and every output, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.cuda.tree_memory import tree_words
from samplerd_server.sampling.rows import new_results
from tests.support.gpu_rows import FEW, KINDS, MIXED, NEVER, WEIGHTS, changed_rows, compare, rows, some_outputs
from tests.support.samplers import outputs, params, request

EVERYTHING = outputs(*KINDS, top_n=3, named=[0], rank=True, entropy=KINDS, kept=True)
DRAWS = st.sampled_from((1, 2, 5, 9))


def check(*asked: Any) -> None:
    compare(_draw, *asked)


def _draw(own: Any, results: Any) -> Any:
    assert is_drawn(own).all()
    return draw(own, results, launch)


def ask(x: Any, draws: int, dtype: Dtype = Dtype.F32, **own: Any) -> Any:
    fields = {name: own.pop(name) for name in ("kind", "outputs") if name in own}
    return request(x, dtype, num_samples=draws, with_replacement=False, seed=6, params=params(**own), **fields)


def of_any_width(*, most: int) -> Any:
    """Batches of rows without replacement, with any filters and outputs."""
    return rows(
        most=most,
        draws=DRAWS,
        with_replacement=st.just(False),
        wanted=some_outputs(),
        parameters=st.one_of(st.just(()), FEW, MIXED),
    )


@settings(max_examples=3, deadline=None)
@given(of_any_width(most=2))
def test_what_is_drawn_and_said(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=15, deadline=None)
@given(of_any_width(most=3))
def test_what_is_drawn_and_said_in_many_more_batches(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=10, deadline=None)
@given(changed_rows(draws=DRAWS, with_replacement=st.just(False), is_sparse=st.booleans()))
def test_what_is_changed_and_drawn(batch) -> None:
    check(*(row.ask() for row in batch))


def test_hard_rows() -> None:
    """Sums that are made anew, again and again; as many draws as there are numbers, and one more; ties; every dtype."""
    rng = np.random.default_rng(3)
    far = np.concatenate([np.linspace(0.0, -900.0, 12), np.full(520, NEVER)])
    check(
        ask(far, 12),
        ask(far[:6], 7),
        ask(10.0 ** -np.arange(0.0, 40.0, 4.0), 10, kind=WEIGHTS),
        *(
            ask(rng.normal(size=20), 4, dtype, temperature=t)
            for dtype, t in zip(Dtype, (1e-8, 0.7, 50.0, 0.0), strict=True)
        ),
        ask([1.0, 2.0, NEVER], 3, temperature=0.0),
        ask([0.0, 0.5, 0.5], 3, kind=WEIGHTS, temperature=0.0),
        ask([0.0, 0.5, 0.5], 3, kind=WEIGHTS),
        ask(np.zeros(9), 3, top_k=2),
        ask([1.0, np.nan], 1),
    )


def test_outputs_of_hard_rows() -> None:
    check(
        ask(10.0 ** -np.arange(0.0, 40.0, 4.0), 8, kind=WEIGHTS, temperature=0.3, outputs=EVERYTHING),
        ask([1.0, 0.0, -0.0, 1.0, NEVER], 4, temperature=0.0, outputs=EVERYTHING),
        ask(np.zeros(9), 3, top_k=3, outputs=EVERYTHING),
    )


@pytest.mark.interpret
def test_trees_of_several_levels() -> None:
    rng = np.random.default_rng(4)
    check(
        ask(rng.normal(scale=4.0, size=40_000), 16),
        ask(np.concatenate([np.full(36_000, -200.0), rng.normal(size=900)]), 12, Dtype.BF16, outputs=EVERYTHING),
        ask(rng.normal(scale=300.0, size=5_000), 40, temperature=0.5),
        ask(rng.random(5_000), 10, kind=WEIGHTS, temperature=1.5, outputs=EVERYTHING),
    )


def test_sixteen_draws_are_two_launches_and_with_outputs_three() -> None:
    launches: list[str] = []
    sizes: list[int] = []

    def count(kernel: Any, _: int, *arguments: Any) -> None:
        launches.append(kernel.__name__)
        sizes.append(max(own.numel() * own.element_size() for own in arguments))

    for wanted, names in (
        ({}, ["measure", "draw_left"]),
        ({"outputs": outputs(*KINDS)}, ["measure", "draw_left", "describe"]),
    ):
        batch = pack([ask(np.zeros(32_768), 16, **wanted) for _ in range(4)])
        launches.clear()
        draw(batch.rows, new_results(batch), count)
        assert launches == names
        assert max(sizes) < batch.rows["width"].sum() * 4 / 10
    assert tree_words(64) * 8 < 32_768 * 4 / 10
