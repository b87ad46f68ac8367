"""The state of adaptive-p in the Python client: where it begins, and what it takes from replies."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_client import AdaptiveP, SampleResult, Timing


def result(*states: tuple[float, float] | None) -> SampleResult:
    """A result of one row, with a state for each sample; None = none was asked for."""
    own = [state for state in states if state is not None]
    sums, weights = (np.array([[state[at] for state in own]]) for at in (0, 1))
    return SampleResult(
        samples=np.array([[3] * len(states)], np.int32),
        seed=0,
        rng="",
        timing=Timing(queue_s=0.0, compute_s=0.0, batch_rows=1),
        adaptive_weighted_sum=sums if own else None,
        adaptive_total_weight=weights if own else None,
    )


def test_it_begins_as_if_the_target_had_been_met():
    own = AdaptiveP(0.4, decay=0.75)
    expected = {
        "adaptive_target": 0.4,
        "adaptive_weighted_sum": 1.6,
        "adaptive_total_weight": 4.0,
        "adaptive_decay": 0.75,
    }
    assert own.fields == pytest.approx(expected)


def test_it_takes_the_state_of_the_sample_that_the_sequence_goes_on_with():
    own = AdaptiveP(0.4, decay=0.75)
    own.update(result((9.0, 4.0), (1.7, 4.1)), draw=1)
    assert (own.weighted_sum, own.total_weight) == (1.7, 4.1)
    assert own.fields["adaptive_weighted_sum"] == 1.7


def test_what_cannot_be_taken_leaves_the_state():
    own = AdaptiveP(0.4)
    before = own.fields
    with pytest.raises(ValueError, match="failed"):
        own.update(result((np.nan, np.nan)))
    with pytest.raises(ValueError, match="adaptive_state"):
        own.update(result(None))
    assert own.fields == before


@pytest.mark.parametrize("fields", [{"target": 0.0}, {"target": 1.1}, {"target": 0.5, "decay": 1.0}])
def test_ranges(fields):
    with pytest.raises(ValueError, match="got"):
        AdaptiveP(**fields)
