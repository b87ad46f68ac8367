"""Dynamic temperatures, smoothing, adaptive-p, skew and XTC's exemptions by kernels for a GPU: every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.core.enums import Dtype, FilterStep, Order, TieRule, XtcExemption
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import is_drawn
from tests.support.gpu_rows import KINDS, NEVER, SHAPED, WEIGHTS, compare, rows, some_outputs
from tests.support.samplers import outputs, params, request, sparse

EVERYTHING = outputs(*KINDS, top_n=4, named=[0], rank=True, entropy=KINDS, kept=True, adaptive_state=True)


def check(*asked: Any) -> None:
    compare(_draw, *asked)


def _draw(own: Any, results: Any) -> Any:
    assert is_drawn(own).all()
    return draw(own, results, launch)


def ask(x: Any, dtype: Dtype = Dtype.F32, **own: Any) -> Any:
    fields = {name: own.pop(name) for name in ("kind", "outputs", "with_replacement", "num_samples") if name in own}
    return request(x, dtype, seed=6, params=params(**own), **{"outputs": EVERYTHING, **fields})


@settings(max_examples=3, deadline=None)
@given(rows(most=2, parameters=SHAPED, wanted=some_outputs(), width=st.integers(1, 40)))
def test_what_is_shaped_and_drawn(batch) -> None:
    check(*(row.ask() for row in batch))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=15, deadline=None)
@given(rows(parameters=SHAPED, wanted=some_outputs()))
def test_what_is_shaped_and_drawn_in_many_more_batches(batch) -> None:
    check(*(row.ask() for row in batch))


def test_shaped_rows() -> None:
    x, weights = [1.0, 2.0, NEVER, 0.5, 2.0], [0.5, 0.0, 0.2, 0.3]
    adaptive = {"adaptive_target": 0.3, "adaptive_weighted_sum": 0.7, "adaptive_total_weight": 2.0}
    check(
        *(ask(x, dtype, smoothing_factor=0.7, smoothing_curve=4.0, temperature=0.6) for dtype in Dtype),
        ask(weights, kind=WEIGHTS, smoothing_factor=0.7, smoothing_curve=1.5, temperature=1.2, top_k=2),
        ask(weights, kind=WEIGHTS, smoothing_factor=0.7, temperature=0.0),
        ask(weights, kind=WEIGHTS, temperature=1.2, **adaptive),
        ask(x, temperature=0.5, top_p=0.7, num_samples=2, **adaptive),
        ask(x, temperature=0.0, **adaptive),
        ask([1.0, 2.0, 3.0], with_replacement=False, num_samples=2, top_k=2, **adaptive),
        ask([1.0, NEVER], adaptive_target=0.9, smoothing_factor=3e38),
    )


def test_dynamic_temperatures() -> None:
    """Also those that become 0, where what is certain may be dropped by XTC."""
    certain = [0.0, 900.0, 1.0]
    wide = {"dynamic_temperature_range": 1.0, "dynamic_temperature_exponent": 0.7}
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 0.0}
    check(
        *(ask([1.0, 2.0, NEVER, 0.5], dtype, temperature=0.7, **wide) for dtype in Dtype),
        ask(certain, temperature=0.7, **wide),
        ask(certain, temperature=0.7, **wide, top_k=2),
        ask(certain, temperature=0.7, **wide, **xtc),
        ask(certain, temperature=0.7, **wide, with_replacement=False, num_samples=2),
        ask([0.5, 0.0, 0.2], kind=WEIGHTS, temperature=1.2, dynamic_temperature_counts_all=True, **wide, top_p=0.9),
        ask([0.5, 0.5], kind=WEIGHTS, temperature=0.5, dynamic_temperature_range=0.5),
        ask(
            [1.0, 2.0, 1.5],
            temperature=0.7,
            bias_ids=np.array([1], np.int32),
            bias_values=np.ones(1, np.float32),
            **wide,
        ),
        ask([1.0, 2.0], temperature=0.0, **wide),
    )


def test_exempt_tokens() -> None:
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 0.1, "top_p": 0.99}
    x = [2.0, 1.0, 1.5, 1.0, 1.0]
    check(
        ask(x, xtc_exempt_ids=np.array([2, 0, 2], np.int32), **xtc),
        ask(x, xtc_exempt_ids=np.array([3], np.int32), ties=TieRule.ALL, **xtc),
        ask(x, xtc_exempt_ids=np.array([3, 1], np.int32), ties=TieRule.HIGHEST_ID, **xtc),
        ask(x, xtc_exempt_ids=np.array([4], np.int32), xtc_exemption=XtcExemption.ROW, **xtc),
        ask(x, xtc_exempt_ids=np.array([0], np.int32), xtc_exemption=XtcExemption.ROW, **xtc),
        ask(x, xtc_exempt_ids=np.array([0], np.int32), min_tokens_to_keep=4, **xtc),
        sparse(
            [1, 5, 8],
            [1.0, 1.5, 1.0],
            NEVER,
            9,
            seed=1,
            params=params(xtc_exempt_ids=np.array([5, 6], np.int32), **xtc),
            outputs=EVERYTHING,
        ),
    )


def test_dynamic_temperatures_before_smoothing_and_shapes() -> None:
    """Also temperatures that become 0, at which nothing is smoothed or shaped, and weights stay weights."""
    wide, smooth = {"dynamic_temperature_range": 1.0}, {"smoothing_factor": 0.6, "smoothing_curve": 4.0}
    certain = [0.0, 900.0, 1.0]
    check(
        *(ask([1.0, 2.0, NEVER, 0.5], dtype, temperature=0.7, **wide, **smooth) for dtype in Dtype),
        ask(certain, temperature=0.7, **wide, **smooth),
        ask([0.5, 0.0, 0.2], kind=WEIGHTS, temperature=0.7, **wide, **smooth, top_k=2),
        ask([0.0, 0.0, 0.2], kind=WEIGHTS, temperature=0.7, **wide, **smooth),
        ask([0.0, 0.0, 0.2], kind=WEIGHTS, temperature=0.7, **wide, adaptive_target=0.4, top_p=0.9),
        ask([0.5, 0.1, 0.2], kind=WEIGHTS, temperature=0.7, **wide, adaptive_target=0.4),
        ask(certain, temperature=0.7, **wide, adaptive_target=0.4),
        ask([1.0, 2.0, 1.5], temperature=0.7, **wide, **smooth, skew=0.5, num_samples=2),
        ask(certain, temperature=0.7, **wide, skew=0.5),
    )


def test_temperatures_that_follow_filters() -> None:
    """In llama.cpp's order and in orders of the caller's: dynamic, smoothed, both, and shaped afterwards."""
    late = {"order": Order.LLAMA_CPP, "top_k": 3, "top_p": 0.95, "temperature": 0.7}
    wide, smooth = {"dynamic_temperature_range": 0.9}, {"smoothing_factor": 0.6, "smoothing_curve": 4.0}
    steps = {"steps": np.array([FilterStep.TOP_K, FilterStep.TEMPERATURE, FilterStep.MIN_P], np.int32), "min_p": 0.3}
    x, weights = [1.0, 2.0, NEVER, 0.5, 2.0, 1.0], [0.5, 0.0, 0.2, 0.3]
    wider = np.random.default_rng(3).normal(size=600)
    check(
        *(ask(x, dtype, **late, **wide, **smooth) for dtype in Dtype),
        ask(x, **late, **wide, dynamic_temperature_counts_all=True),
        ask(x, **late, **wide, xtc_probability=1.0, xtc_threshold=0.1, dynamic_temperature_counts_all=True),
        ask(x, **late, **wide, top_n_sigma=1.0, dynamic_temperature_counts_all=True),
        ask(weights, kind=WEIGHTS, **late, **wide),
        ask(weights, kind=WEIGHTS, **late, **smooth, num_samples=2),
        ask(weights, kind=WEIGHTS, **late, **wide, **smooth, bias_ids=np.array([1], np.int32), bias_values=np.ones(1)),
        ask(wider, temperature=0.8, top_k=40, **steps, **smooth),
        ask(wider, temperature=0.8, top_k=40, **steps, **wide, **smooth, skew=-0.7),
        ask(wider, temperature=0.8, top_k=40, **steps, **wide, adaptive_target=0.3),
        ask([0.0, 900.0, 1.0], **{**late, "temperature": 0.9}, **wide, **smooth),
        ask([0.0, 900.0, 1.0], temperature=0.5, top_k=2, **steps, **wide, adaptive_target=0.3),
        ask([0.0, 900.0, 1.0], with_replacement=False, num_samples=2, **{**late, "temperature": 0.5}, **wide, **smooth),
        ask([1.0, np.nan], **late, **wide),
        ask([1.0, 2.0], **late, **smooth, allowed_tokens=np.array([], np.int32)),
        ask([1.0, 2.0], **{**late, "temperature": 0.0}, **smooth),
    )


def test_skewed_rows() -> None:
    """Ties, one number, lists of several blocks, every dtype, and steps of no mass."""
    x = [1.0, 2.0, NEVER, 0.5, 2.0, -0.0, 0.0]
    wide = np.round(np.random.default_rng(2).normal(scale=3.0, size=1_200), 1)
    check(
        *(ask(x, dtype, skew=skew) for dtype, skew in zip(Dtype, (-5.0, -0.5, 0.5, 3.0), strict=True)),
        ask([4.0], skew=1.0),
        ask(wide, skew=0.7, temperature=1.3),
        ask(wide, skew=-2.0, top_k=900, with_replacement=False, num_samples=3),
        ask([0.5, 0.0, 0.2, 0.2], kind=WEIGHTS, skew=0.7),
        ask([0.5, 0.0, 0.2, 0.2], kind=WEIGHTS, skew=0.7, temperature=0.0),
        ask([0.0, -900.0, -901.0], skew=5.0),
        ask(x, skew=0.4, smoothing_factor=0.5, top_p=0.9),
    )
