"""The waits before a worker is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.process.workers.restarts import Backoff


def test_waits_double_up_to_half_a_minute():
    backoff = Backoff()
    waits = [backoff.died(0.0) for _ in range(12)]
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert waits[-3:] == [30.0, 30.0, 30.0]


def test_a_worker_that_was_well_begins_anew():
    backoff = Backoff()
    for _ in range(12):
        backoff.died(59.0)
    assert backoff.died(60.0) == 0.1
    assert backoff.died(0.0) == 0.2


@given(st.lists(st.floats(0, 1e6)))
def test_every_wait_is_bounded_and_longer_than_the_last_unless_it_was_well(served):
    backoff, last = Backoff(), 0.0
    for served_s in served:
        wait = backoff.died(served_s)
        assert 0.1 <= wait <= 30.0
        assert served_s >= 60.0 or wait > last or wait == 30.0
        last = wait
