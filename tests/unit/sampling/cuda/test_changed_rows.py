"""Masks, biases and penalties by the kernels for a GPU in Triton's interpreter: the bits of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, PenaltyScope
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.rows import new_results
from tests.support.gpu_rows import KINDS, NEVER, WEIGHTS, changed_rows, compare
from tests.support.samplers import outputs, params, request

EVERYTHING = outputs(*KINDS, top_n=4, named=[0, 2], rank=True, entropy=KINDS, kept=True)


def check(*asked: Any) -> None:
    compare(_draw, *asked)


def _draw(own: Any, results: Any) -> Any:
    assert is_drawn(own).all()
    return draw(own, results, launch)


def ids(*tokens: int) -> Any:
    return np.array(tokens, np.int32)


@settings(max_examples=3, deadline=None)
@given(changed_rows())
def test_what_is_changed_and_drawn(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=30, deadline=None)
@given(changed_rows(most=3))
def test_what_is_changed_and_drawn_in_many_more_batches(batch) -> None:
    check(*(row.ask() for row in batch))


def test_hard_rows() -> None:
    """What leaves nothing, saturates, or turns weights into logits; every dtype; tokens that stand in history often."""

    def ask(x: Any, dtype: Dtype = Dtype.F32, **own: Any) -> Any:
        kind = {"kind": own.pop("kind")} if "kind" in own else {}
        return request(x, dtype, seed=4, params=params(**own), outputs=EVERYTHING, **kind)

    often = {"history": np.resize(ids(1, 1, 2), 300), "prompt_length": 7}
    check(
        *(ask([1.0, 2.0, -1.0, 0.5], dtype, repetition_penalty=1.3, frequency_penalty=0.1, **often) for dtype in Dtype),
        ask([1.0, 2.0, 3.0], presence_penalty=0.5, presence_scope=PenaltyScope.OUTPUT, penalty_range=2, **often),
        ask([1.0, 2.0, 3.0], allowed_tokens=ids()),
        ask([1.0, 2.0, NEVER], token_bitmask=b"\x04\x00\x00\x00"),
        ask([1.0, 2.0, 3.0], bias_ids=ids(0, 1, 2), bias_values=np.full(3, NEVER, np.float32)),
        ask([3e38, 2.0, 3.0], bias_ids=ids(0), bias_values=np.array([3e38], np.float32), temperature=0.0),
        ask([0.5, 0.0, 0.2], kind=WEIGHTS, allowed_tokens=ids(2, 0, 2), temperature=0.7),
        ask([0.5, 0.0, 0.2], kind=WEIGHTS, bias_ids=ids(1, 2), bias_values=np.ones(2, np.float32), top_k=2),
        ask([0.5, 0.1, 0.2], kind=WEIGHTS, temperature=0.0, top_p=0.5, **often, frequency_penalty=0.1),
        ask([1.0, np.nan], allowed_tokens=ids(0)),
    )


def test_a_batch_with_changes_is_eight_launches() -> None:
    launches: list[str] = []
    asked = [
        request(np.zeros(700), params=params(top_p=0.5, allowed_tokens=ids(1)), outputs=EVERYTHING, seed=1),
        request(np.zeros(600), params=params(top_k=5), seed=2),
        request(np.zeros(500), params=params(temperature=0.0, history=ids(1), presence_penalty=1.0), seed=2),
    ]
    batch = pack(asked)
    draw(batch.rows, new_results(batch), lambda kernel, *_: launches.append(kernel.__name__))
    of_all = ["measure", "adjust", "measure", "select", "measure", "pick", "moments", "describe"]
    assert launches == of_all
