"""The cost model: a line through what was seen, and sober guesses beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.batching.cost_model import CostModel


def test_at_first_it_knows_nothing():
    cost_model = CostModel()
    assert not cost_model.knows
    assert cost_model.predict(1 << 30) == 0.0


def test_it_finds_the_line():
    cost_model = CostModel()
    for work in (1000, 50_000, 1_000_000) * 10:
        cost_model.learn(work, 20e-6 + work * 1e-9)
    assert cost_model.knows
    for work in (0, 10_000, 100_000_000):
        assert cost_model.predict(work) == pytest.approx(20e-6 + work * 1e-9, rel=0.01)


def test_one_small_batch_does_not_make_large_ones_slow():
    cost_model = CostModel()
    cost_model.learn(750_000, 1.5e-3)
    assert cost_model.predict(750_000) == pytest.approx(1.5e-3)
    # As the prices say, and what the small one took beside its price; not twice as slow as they say.
    assert cost_model.predict(15_000_000) == pytest.approx(0.75e-3 + 15e-3, rel=1e-3)


def test_batches_of_nearly_one_size_do_not_tell_the_rate():
    cost_model = CostModel()
    for batch in range(100):
        cost_model.learn(1_000_000 + batch % 2, 3e-3 + 1e-4 * (batch % 2))
    assert cost_model.predict(10_000_000) == pytest.approx(12e-3, rel=0.02)


def test_large_batches_of_unlike_times_say_little_about_small_ones():
    cost_model = CostModel()
    for batch in range(200):
        cost_model.learn(1_000, 60e-6)
        cost_model.learn(20_000_000, 0.02 * (1.2 if batch % 2 else 0.8))
    assert cost_model.predict(1_000) == pytest.approx(60e-6, rel=0.1)
    assert cost_model.predict(20_000_000) == pytest.approx(0.02, rel=0.1)


def test_it_forgets_a_slow_start():
    cost_model = CostModel()
    cost_model.learn(1000, 5.0)
    for work in (1000, 2000) * 500:
        cost_model.learn(work, work * 1e-9)
    assert cost_model.predict(1000) == pytest.approx(1e-6, rel=0.5)


def test_batches_of_one_size_are_scaled():
    cost_model = CostModel()
    for _ in range(10):
        cost_model.learn(1 << 20, 0.001)
    assert cost_model.predict(1 << 20) == pytest.approx(0.001)
    assert cost_model.predict(1 << 30) == pytest.approx(1.024)


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.floats(0, 10)), min_size=1, max_size=30))
def test_predictions_are_finite_never_negative_and_grow_with_work(batches):
    cost_model = CostModel()
    for work, seconds in batches:
        cost_model.learn(work, seconds)
    predictions = [cost_model.predict(work) for work in (0, 1, 1 << 10, 1 << 20, 1 << 30)]
    assert all(0 <= seconds < 1e12 for seconds in predictions)
    assert predictions == sorted(predictions)
    # No memory is read faster than this, so a gigabyte is never thought to be quick.
    assert cost_model.predict(1 << 30) > 0.01
