"""Outputs by the kernels for a GPU in Triton's interpreter: every bit is that of the compiled kernels of the CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from samplerd_server.core.enums import Dtype, Order
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import is_drawn
from tests.support.gpu_rows import KINDS, NEVER, WEIGHTS, chosen, compare, rows, some_outputs
from tests.support.samplers import outputs, params, request

EVERYTHING = outputs(*KINDS, top_n=4, named=[0, 2, 1], rank=True, entropy=KINDS, kept=True)
PARAMETERS = chosen(
    {},
    {"top_k": (1, 2, 20), "top_p": (1.0, 0.5), "min_p": (0.0, 0.5)},
    {"top_p": (0.5,), "order": (Order.HUGGING_FACE,)},
)


def check(*asked: Any) -> None:
    compare(partial(_draw), *asked)


def _draw(own: Any, results: Any) -> Any:
    assert is_drawn(own).all()
    return draw(own, results, launch)


def drawn_rows(**own: Any) -> Any:
    """Batches of rows of which some are greedy, and the others have a top_k or no filter."""
    return (
        rows(wanted=some_outputs(), parameters=PARAMETERS, **own)
        .map(
            lambda batch: [
                row for row in batch if row.temperature == 0 or "top_k" in dict(row.parameters) or not row.parameters
            ]
        )
        .filter(bool)
    )


@settings(max_examples=3, deadline=None)
@given(drawn_rows())
def test_every_output_is_that_of_the_compiled_kernels(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=40, deadline=None)
@given(drawn_rows(most=4))
def test_every_output_in_many_more_batches(batch) -> None:
    check(*(row.ask() for row in batch))


def test_hard_rows() -> None:
    """Entropies at the ends of the range of temperatures, blocks without mass, ties, and every dtype."""
    rng = np.random.default_rng(1)
    logits, weights = np.round(rng.normal(scale=3.0, size=1_100), 1), rng.random(600)
    logits[:520], weights[:512] = NEVER, 0.0
    ask = partial(request, outputs=EVERYTHING, seed=5)
    check(
        *(
            ask(logits, dtype, params=params(temperature=t))
            for t, dtype in zip((0.0, 1e-8, 1.0, 1e25), Dtype, strict=True)
        ),
        *(ask(weights, kind=WEIGHTS, params=params(temperature=t)) for t in (0.0, 0.5, 1.0, 1e6)),
        ask([3e38, -3e38, NEVER], params=params(temperature=1e25)),
        ask([0.0, -0.0, 0.0], params=params(top_k=2)),
        ask(logits, params=params(temperature=0.7, top_k=30, top_p=0.9), num_samples=3),
        ask(weights, kind=WEIGHTS, params=params(temperature=0.7, top_k=30, min_p=0.1)),
        ask([1.0, np.nan, 2.0]),
        ask([NEVER] * 3, params=params(top_k=1)),
    )
