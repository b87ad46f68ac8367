"""top_k, and top_p and min_p after it, by the kernels for a GPU in Triton's interpreter: what is kept, and answers.

As many are kept as by the compiled kernels of the CPU, and draws fall on the same ids; rows have ties at their cuts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, Order, TieRule
from samplerd_server.sampling.cuda.filtered import draw_filtered, is_filtered
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.sampler import InterpretedSampler
from samplerd_server.sampling.rows import new_results
from tests.support.samplers import make_sampler, outputs, params, request

WEIGHTS, NEVER = InputKind.PROBABILITIES, float("-inf")


def compare(*asked: Any) -> None:
    """Hold a batch against the compiled kernels, which say how many they kept as well."""
    batch = pack([request_of(own) for own in asked])
    assert is_filtered(batch.rows).all()
    got = new_results(batch)
    kept = draw_filtered(batch.rows, got, launch)
    want = make_sampler("numba").sample(pack([request_of(own, outputs=outputs(kept=True)) for own in asked]))
    assert got.status.tolist() == want.status.tolist()
    assert got.detail.tolist() == want.detail.tolist()
    assert got.samples.tolist() == want.samples.tolist()
    assert want.kept_count is not None
    assert kept.tolist() == want.kept_count.tolist()


def request_of(own: Any, **more: Any) -> Any:
    x, dtype, kind, filters, fields = own
    return request(x, dtype, kind=kind, params=params(**filters), **{"seed": 7, **fields, **more})


def ask(
    x: Any, dtype: Dtype = Dtype.F32, kind: InputKind = InputKind.LOGITS, fields: Any = None, **filters: Any
) -> tuple[Any, ...]:
    return x, dtype, kind, filters, fields or {}


@dataclass(frozen=True)
class FilteredRow:
    """A row, by what it is made of: a failure shows this, not its numbers."""

    seed: int
    width: int
    kind: InputKind
    dtype: Dtype
    temperature: float
    scale: float
    never: float
    has_ties: bool
    fault: float | None
    draws: int
    top_k: int
    top_p: float
    min_p: float

    def ask(self) -> Any:
        rng = np.random.default_rng(self.seed)
        x = rng.normal(scale=self.scale, size=self.width)
        if self.has_ties:
            x = np.round(x * 2) / 2
        if self.kind is WEIGHTS:
            x = np.abs(x)
        x[rng.random(self.width) < self.never] = 0.0 if self.kind is WEIGHTS else NEVER
        if self.fault is not None:
            x[rng.integers(self.width)] = self.fault
        filters = {"top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p, "temperature": self.temperature}
        return ask(x, self.dtype, self.kind, {"num_samples": self.draws, "seed": self.seed}, **filters)


ROWS = st.lists(
    st.builds(
        FilteredRow,
        seed=st.integers(0, 2**64 - 1),
        width=st.one_of(st.integers(1, 40), st.sampled_from((511, 513, 1_500))),
        kind=st.sampled_from((InputKind.LOGITS, InputKind.LOGITS, WEIGHTS)),
        dtype=st.sampled_from(tuple(Dtype)),
        temperature=st.sampled_from((1e-8, 0.3, 0.8, 1.0, 1.7, 1e6)),
        scale=st.sampled_from((0.01, 1.0, 6.0)),
        never=st.sampled_from((0.0, 0.3, 0.99)),
        has_ties=st.booleans(),
        fault=st.sampled_from((None,) * 12 + (math.nan, math.inf)),
        draws=st.sampled_from((1, 2)),
        top_k=st.sampled_from((1, 2, 5, 20, 50)),
        top_p=st.sampled_from((1.0, 0.1, 0.5, 0.8, 0.999)),
        min_p=st.sampled_from((0.0, 0.0, 0.01, 0.5, 1.0)),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=4, deadline=None)
@given(ROWS)
def test_what_is_kept_and_drawn_is_that_of_the_compiled_kernels(rows) -> None:
    compare(*(row.ask() for row in rows))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_what_is_kept_and_drawn_in_many_more_batches(rows) -> None:
    compare(*(row.ask() for row in rows))


@pytest.mark.interpret
def test_wide_rows_and_many_kept() -> None:
    rng = np.random.default_rng(4)
    compare(
        *(ask(rng.normal(size=2_000), top_k=k, top_p=0.95, temperature=1.3) for k in (700, 1_024)),
        ask(np.zeros(3_000), top_k=1_024, min_p=0.5),
        ask(rng.normal(scale=3.0, size=32_768), Dtype.BF16, top_k=50, top_p=0.9),
    )


def test_rows_on_boundaries() -> None:
    """Ties at k and at p, and masses that make exactly what is asked for: rows of a textbook."""
    book = np.log([0.5, 0.3, 0.1, 0.1])
    compare(
        *(ask(book, top_k=4, top_p=p) for p in (0.5, 0.8, 0.801)),
        ask(book, top_k=4, min_p=0.6),
        ask([0.5, 0.3, 0.1, 0.1], kind=WEIGHTS, top_k=4, top_p=0.8),
        ask([0.5, 0.3, 0.1, 0.1], kind=WEIGHTS, top_k=3, top_p=0.99, temperature=2.0),
        ask(np.ones(20), top_k=7),
        ask([1.0, 2.0, NEVER], top_k=50),
        ask([0.0, 0.0, 1e-45], kind=WEIGHTS, top_k=2),
        ask([NEVER, NEVER], top_k=1),
        ask([0.0, -0.0, 0.0], top_k=2),
        ask([1.0, math.nan], top_k=1),
    )


def test_a_filtered_batch_is_five_launches() -> None:
    launches = []
    asked = [ask(np.zeros(width), top_k=5, top_p=p) for width in (1, 600, 40_000) for p in (0.5, 1.0)]
    batch = pack([request_of(own) for own in asked])
    draw_filtered(batch.rows, new_results(batch), lambda kernel, *_: launches.append(kernel))
    assert len(launches) == 5


def test_other_parameters_are_left_to_other_kernels() -> None:
    own = {"top_k": 5, "top_p": 0.9, "min_p": 0.1}
    others = (
        *({"top_k": 0}, {"top_k": 1_025}, {"typical_p": 0.5}, {"temperature": 0.0}, {"min_tokens_to_keep": 3}),
        *({"order": Order.VLLM}, {"ties": TieRule.ALL}, {"xtc_probability": 0.5, "xtc_threshold": 0.1}),
    )
    rows = [request([1.0, 2.0], seed=1, params=params(**{**own, **other})) for other in ({}, *others)]
    rows.append(request([1.0, 2.0], seed=1, params=params(**own), with_replacement=False))
    rows.append(request([1.0, 2.0], seed=1, params=params(**own), outputs=outputs(rank=True)))
    batch = pack(rows)
    assert is_filtered(batch.rows).tolist() == [True] + [False] * (len(rows) - 1)
    assert InterpretedSampler().sample(batch).samples.tolist() == make_sampler("numba").sample(batch).samples.tolist()
