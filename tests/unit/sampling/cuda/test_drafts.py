"""Drafts verified by the kernels for a GPU in Triton's interpreter: the verdicts of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, Order
from samplerd_server.sampling.cuda.drafts import Draft, enqueue_drafts, new_judged
from samplerd_server.sampling.cuda.draw_memory import TensorMemory
from samplerd_server.sampling.cuda.scope import is_drawn
from tests.support.drafts import ask_sampler, chain, random_parents
from tests.support.gpu_batches import random_draft
from tests.support.gpu_drafts import verify_interpreted
from tests.support.gpu_rows import NEVER, WEIGHTS
from tests.support.samplers import encode, make_sampler, params, request

TREE = [-1, -1, 0, 0, 1, 1, 4]


def check(target: Any, ids: Any, parents: Any, draft: Any = None) -> Any:
    """Ask for the verdict of both. Returns it."""
    assert is_drawn(pack([target]).rows).all()
    [got] = verify_interpreted((target, ids, parents, draft))
    assert got == ask_sampler(make_sampler("numba"), target, ids, parents, draft)
    return got


def test_what_is_left_after_rejections() -> None:
    """Siblings that are rejected one after the other, of certain tokens and of distributions of every dtype."""
    target, paths = np.array([[0.4, 0.3, 0.2, 0.1]] * 4), set()
    for seed, dtype in enumerate([*Dtype, *Dtype]):
        asked = request(target, kind=WEIGHTS, seed=seed)
        paths.add(check(asked, [0, 1, 2], [-1, -1, -1]).path)
        check(asked, [1, 0, 2], [-1, -1, -1], encode([[0.1, 0.6, 0.2, 0.1], [0.9, 0.0, 0.1, 0.0], [0, 0, 1, 0]], dtype))
    assert len(paths) > 2
    row = [0.5, 0.25, 0.25, 0.0]
    for seed in range(3):
        check(request([row] * 3, kind=WEIGHTS, seed=seed), [3, 1], [-1, -1], encode([row, row]))
        check(request([[0.5, 0.0, 0.5]] * 3, kind=WEIGHTS, seed=seed), [1, 1], [-1, -1], encode([[0, 0, 1], [1, 0, 0]]))
    check(request([[0.5, 0.5]] * 3, kind=WEIGHTS, seed=4), [0, 0], [-1, -1])


def test_rows_with_parameters_in_a_tree() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(scale=2.0, size=(8, 12))
    x[:, 3] = NEVER
    late = {"order": Order.LLAMA_CPP, "top_p": 0.9, "dynamic_temperature_range": 0.5, "smoothing_factor": 0.4}
    for seed, own in enumerate(
        (
            {"top_k": 3},
            {"temperature": 0.0},
            {"temperature": 0.0, "top_p": 0.5, "order": Order.LLAMA_CPP},
            {"typical_p": 0.8, "temperature": 1.3, "bias_ids": np.array([1], np.int32), "bias_values": np.ones(1)},
            {"skew": 0.5, "min_p": 0.05},
            late,
        )
    ):
        ids = rng.integers(0, 12, 7).tolist()
        check(request(x, seed=seed, draw_offset=3, params=params(**own)), ids, TREE, encode(rng.random((7, 12))))


def test_rows_at_fault() -> None:
    bad = np.array([[0.5, 0.5], [np.nan, 1.0], [1.0, 0.0]])
    check(request(bad, kind=WEIGHTS, seed=1), [0, 1], chain(2))
    check(request([[0.0, 1.0], [np.nan, 1.0], [1.0, 0.0]], kind=WEIGHTS), [0, 1], [-1, -1], encode([[1, 0], [0, 1]]))
    check(request([[1.0, 0.0], [1.0, 0.0], [1.0, np.inf]], kind=WEIGHTS), [0, 0], chain(2))
    for fault in ([0.0, 0.0], [np.nan, 1.0], [-1.0, 1.0]):
        check(request([[0.5, 0.5]] * 3, kind=WEIGHTS), [0, 0], [-1, -1], encode([[0.0, 1.0], fault]))
    own = params(allowed_tokens=np.array([], np.int32))
    check(request([[0.5, 0.5]] * 2, kind=WEIGHTS, params=own), [0], [-1])
    check(request([[NEVER, NEVER]] * 2), [0], [-1])


def test_wide_rows() -> None:
    """Residuals of several blocks, whose sums are made block by block."""
    rng = np.random.default_rng(5)
    x, q = rng.normal(size=(4, 1_300)), rng.random((3, 1_300))
    for seed in range(2):
        check(request(x, seed=seed), [7, 600, 1_299], [-1, -1, -1], encode(q))


def check_together(*asked: Any) -> None:
    cpu = make_sampler("numba")
    for got, own in zip(verify_interpreted(*asked), asked, strict=True):
        assert got == ask_sampler(cpu, *own)


def test_random_drafts_of_any_widths_are_verified_together() -> None:
    check_together(*(random_draft(seed).ask() for seed in range(12)))


def test_a_verdict_does_not_depend_on_the_drafts_beside_it() -> None:
    drafts = [random_draft(seed).ask() for seed in (3, 4)]
    wide = (request(np.zeros((3, 1_300)), seed=1), [1, 1_299], [-1, 0], None)
    check_together(drafts[0], wide, drafts[1])
    check_together(wide, drafts[1])


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
def test_many_more_random_drafts() -> None:
    rng = np.random.default_rng(1)
    for seed in range(100, 250, 3):
        check_together(*(random_draft(seed + at).ask() for at in range(3)))
    for tokens in (1, 5, 9):
        check(request(rng.normal(size=(tokens + 1, 9))), [1] * tokens, random_parents(rng, tokens))


def test_a_draft_is_five_launches_at_most() -> None:
    own = params(top_p=0.5, allowed_tokens=np.array([1], np.int32))
    rows = pack([request(np.zeros((3, 600)), params=own, seed=1)]).rows
    draft = Draft(ids=np.array([1, 1], np.int32), parents=np.array([-1, 0], np.int32), width=600, address=1)

    def launch(kernel: Any, programs: int, *_: Any) -> None:
        launches.append((kernel.__name__, programs))

    for count in (1, 3):
        launches: list[tuple[str, int]] = []
        drafts = [draft] * count
        enqueue_drafts(np.concatenate([rows] * count), drafts, new_judged(drafts), launch, TensorMemory())
        assert [name for name, _ in launches] == ["measure", "adjust", "measure", "select", "judge"]
        assert launches[-1] == ("judge", count), "a program for each"
