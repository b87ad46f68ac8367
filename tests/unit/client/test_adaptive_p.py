"""The state of adaptive-p in the Python client, against llama.cpp's formulas worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_client import AdaptiveP, SampleResult, Timing


def result(logprob: float, kept_mass: float | None) -> SampleResult:
    return SampleResult(
        samples=np.array([[0, 3]], np.int32),
        seed=0,
        rng="",
        timing=Timing(queue_s=0.0, compute_s=0.0, batch_rows=1),
        logprobs={"scaled": np.array([[-9.0, logprob]], np.float32)},
        kept_mass=None if kept_mass is None else np.array([kept_mass], np.float32),
    )


def test_it_begins_as_if_the_target_had_been_met():
    own = AdaptiveP(0.4, decay=0.75)
    expected = {"adaptive_target": 0.4, "adaptive_weighted_sum": 1.6, "adaptive_total_weight": 4.0}
    assert own.fields == pytest.approx(expected)


def test_a_draw_adds_the_probability_among_what_was_kept():
    own = AdaptiveP(0.4, decay=0.75)
    assert own.update(result(np.log(0.3), 0.6), draw=1) == pytest.approx(0.5)
    assert (own.weighted_sum, own.total_weight) == pytest.approx((0.5 + 0.75 * 1.6, 1 + 0.75 * 4))


def test_what_cannot_be_taken_leaves_the_state():
    own = AdaptiveP(0.4)
    before = own.fields
    for bad in (result(np.nan, 0.6), result(np.nan, np.nan), result(-1.0, None)):
        with pytest.raises(ValueError, match="failed" if bad.kept_mass is not None else "needs"):
            own.update(bad, draw=1)
    assert own.fields == before


@pytest.mark.parametrize("fields", [{"target": 0.0}, {"target": 1.1}, {"target": 0.5, "decay": 1.0}])
def test_ranges(fields):
    with pytest.raises(ValueError, match="got"):
        AdaptiveP(**fields)
