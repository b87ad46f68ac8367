"""Rows changed before the temperature, by kernels for a GPU in the interpreter: the bits of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, PenaltyScope
from samplerd_server.core.params import Dry
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.rows import new_results
from tests.support.gpu_rows import KINDS, LOGITS, NEVER, WEIGHTS, changed_rows, compare
from tests.support.samplers import encode, outputs, params, request, sequence_lists, sparse

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


def test_rows_that_history_forbids_or_lowers() -> None:
    """Bad words, n-grams and DRY, alone and with what they forbid everything by."""

    def ask(x: Any, dtype: Dtype = Dtype.F32, **own: Any) -> Any:
        kind = {"kind": own.pop("kind")} if "kind" in own else {}
        return request(x, dtype, seed=4, params=params(**own), outputs=EVERYTHING, **kind)

    x, weights = [1.0, 2.0, -1.0, 0.5], [0.5, 0.0, 0.2, 0.3]
    words = sequence_lists("bad_words", [[1], [2, 0], [3, 3, 3]])
    dry = Dry(
        multiplier=0.8, allowed_length=1, sequence_breakers=ids(3), **sequence_lists("breaker_sequences", [[0, 1]])
    )
    history = ids(1, 2, 0, 1, 2, 2, 1, 2)
    check(
        *(ask(x, dtype, history=history, dry=dry, **words) for dtype in Dtype),
        ask(weights, kind=WEIGHTS, history=history, no_repeat_ngram_size=2, top_k=2),
        ask(weights, kind=WEIGHTS, history=history, dry=dry, temperature=0.7),
        ask(weights, kind=WEIGHTS, history=ids(), dry=dry, temperature=0.7),
        ask(x, history=history, bad_words_scope=PenaltyScope.OUTPUT, prompt_length=7, **words),
        ask(x, history=ids(0, 1, 2, 3), no_repeat_ngram_size=1),
        ask(x, history=ids(0, 0, 0, 0), dry=Dry(multiplier=1e300, allow_no_repeat=True), temperature=0.0),
        ask(x, allowed_tokens=ids(1), **words),
        ask(x, dry=dry, history=np.resize(ids(1, 1, 2), 300), bias_ids=ids(1), bias_values=np.ones(1, np.float32)),
    )


def test_guided_rows() -> None:
    """Guidance of every dtype and kind, what it leaves nothing of, and faults in either row: the row's come first."""

    def ask(x: Any, y: Any, dtype: Dtype = Dtype.F32, kind: Any = LOGITS, scale: float = 1.5, **own: Any) -> Any:
        own_params = params(guidance_scale=scale, **own)
        return request(x, seed=4, kind=kind, guidance=encode(y, dtype), params=own_params, outputs=EVERYTHING)

    x, y = [1.0, 2.0, -1.0, NEVER], [0.5, NEVER, 0.25, 1.0]
    wide = np.random.default_rng(1).normal(scale=3.0, size=(2, 1_100))
    check(
        *(ask(x, y, dtype, temperature=0.7) for dtype in Dtype),
        *(ask(wide[0], wide[1], dtype, scale=scale) for dtype, scale in ((Dtype.F16, -2.0), (Dtype.F64, 3e38))),
        ask([0.5, 0.0, 0.2], [0.1, 0.3, 0.0], kind=WEIGHTS, top_k=2),
        ask([0.5, 0.0, 0.2], [0.1, 0.3, 0.0], kind=WEIGHTS, temperature=0.0),
        ask(x, y, allowed_tokens=ids(1, 3)),
        ask(x, y, bias_ids=ids(0), bias_values=np.ones(1, np.float32), history=ids(0, 2), repetition_penalty=1.3),
        ask([1.0, NEVER], [NEVER, 1.0]),
        ask([1.0, NEVER], [NEVER, NEVER]),
        ask([NEVER, NEVER], [NEVER, NEVER]),
        ask([NEVER, NEVER], [1.0, np.nan]),
        ask([1.0, np.nan], [np.inf, 1.0]),
        ask([1.0, 2.0], [1.0, np.inf]),
        ask([0.5, 0.2], [0.1, -0.5], kind=WEIGHTS),
    )


def test_candidates() -> None:
    """Candidates without a rest: tokens that were not sent are named by masks, biases, histories and outputs."""

    def ask(tokens: Any, x: Any, vocab_size: int = 90, **own: Any) -> Any:
        return sparse(tokens, x, NEVER, vocab_size, seed=4, num_samples=2, params=params(**own), outputs=EVERYTHING)

    x = [1.0, NEVER, 2.0, 0.5]
    words = sequence_lists("bad_words", [[2], [40, 41], [5]])
    bias = {"bias_ids": ids(2, 3, 40), "bias_values": np.array([1.0, 2.0, 0.5], np.float32)}
    history = {"history": ids(40, 3, 2, 41, 40, 3), "repetition_penalty": 1.2, "presence_penalty": 0.1}
    check(
        ask([0, 2, 40, 89], x, temperature=0.7),
        ask([0, 2, 40, 89], x, temperature=0.0, top_k=2),
        ask([5], [0.25]),
        ask([0, 2, 40, 89], x, token_bitmask=b"\x01\x00\x00\x00\x00\x01\x00\x00"),
        ask([0, 2, 40, 89], x, allowed_tokens=ids(40, 41, 40)),
        ask([0, 2, 40, 89], x, allowed_tokens=ids(41)),
        ask([0, 2, 40, 89], x, **bias, top_p=0.8),
        ask([0, 2, 40, 89], x, **history, **words, no_repeat_ngram_size=2),
        ask([0, 2, 40, 89], x, history=ids(40, 2, 3, 40, 2), dry=Dry(multiplier=0.5, allow_no_repeat=True), min_p=0.2),
        ask([0, 2, 40, 89], x, **bias, **history, typical_p=0.7),
        ask([1, 2], [NEVER, NEVER]),
        ask([1, 2], [1.0, np.nan]),
    )
    unsorted = sparse([3, 1], [0.0, 1.0], NEVER, 9, seed=1)
    with_a_rest = sparse([1, 3], [0.0, 1.0], 0.5, 9, seed=1)
    assert not is_drawn(pack([unsorted, with_a_rest]).rows).any()


def test_a_batch_with_changes_is_eight_launches() -> None:
    launches: list[str] = []
    asked = [
        request(np.zeros(700), params=params(top_p=0.5, allowed_tokens=ids(1)), outputs=EVERYTHING, seed=1),
        request(np.zeros(600), params=params(top_k=5), seed=2),
        request(np.zeros(6), params=params(guidance_scale=2.0), guidance=encode(np.ones(6)), seed=2),
        request(np.zeros(6), params=params(top_k=5), with_replacement=False, seed=2),
        request(np.zeros(500), params=params(temperature=0.0, history=ids(1), presence_penalty=1.0), seed=2),
    ]
    batch = pack(asked)
    draw(batch.rows, new_results(batch), lambda kernel, *_: launches.append(kernel.__name__))
    of_all = ["measure", "adjust", "measure", "select", "pick", "draw_left", "moments", "describe"]
    assert launches == of_all
