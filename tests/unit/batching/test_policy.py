"""When a batch is closed: a table of cases, and what holds in all of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from samplerd_server.batching.policy import Close, DeviceState, Wait, decide
from samplerd_server.config import BatchingConfig

NOW = 100.0
FULL = {"max_rows": 8, "max_bytes": 1000}


def outcome(rows, *, size=10, batches=0, device_rows=0, delay=0.0, oldest=NOW, deadline=math.inf, now=NOW):
    queue = SimpleNamespace(rows=rows, bytes=size, oldest_arrival=lambda: oldest, nearest_deadline=lambda: deadline)
    config = BatchingConfig(**FULL, max_queue_delay_s=delay)
    return decide(now, queue, DeviceState(batches=batches, rows=device_rows), config)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # Nothing waits.
        ({"rows": 0}, Wait()),
        ({"rows": 0, "delay": 1.0}, Wait()),
        # An idle device takes what there is.
        ({"rows": 1}, Close("idle")),
        ({"rows": 8}, Close("full")),
        ({"rows": 1, "size": 1000}, Close("full")),
        # One batch runs: the next gathers until it is as large, or full.
        ({"rows": 3, "batches": 1, "device_rows": 4}, Wait()),
        ({"rows": 4, "batches": 1, "device_rows": 4}, Close("idle")),
        ({"rows": 8, "batches": 1, "device_rows": 20}, Close("full")),
        # One is closed ahead already: never a second.
        ({"rows": 8, "batches": 2, "device_rows": 2}, Wait()),
        ({"rows": 100, "batches": 3, "device_rows": 2}, Wait()),
        # With a delay an idle device waits for it, from the oldest arrival.
        ({"rows": 1, "delay": 0.5}, Wait(NOW + 0.5)),
        ({"rows": 1, "delay": 0.5, "oldest": NOW - 0.3}, Wait(NOW + 0.2)),
        ({"rows": 1, "delay": 0.5, "oldest": NOW - 0.5}, Close("delay")),
        ({"rows": 8, "delay": 0.5}, Close("full")),
        # A delay does not change what happens beside a running batch.
        ({"rows": 3, "delay": 0.5, "batches": 1, "device_rows": 4, "oldest": 0.0}, Wait()),
        ({"rows": 4, "delay": 0.5, "batches": 1, "device_rows": 4}, Close("idle")),
        # A deadline before the end of the delay: half of what is left is kept for the computation.
        ({"rows": 1, "delay": 0.5, "deadline": NOW + 0.6}, Wait(NOW + 0.3)),
        ({"rows": 1, "delay": 0.5, "deadline": NOW + 2.0}, Wait(NOW + 0.5)),
        ({"rows": 1, "delay": 0.5, "deadline": NOW + 0.1}, Close("deadline")),
        ({"rows": 1, "delay": 0.5, "deadline": NOW - 1.0}, Close("deadline")),
    ],
)
def test_cases(case, expected):
    got = outcome(**case)
    if isinstance(expected, Wait) and expected.until is not None:
        assert isinstance(got, Wait)
        assert got.until == pytest.approx(expected.until)
    else:
        assert got == expected


times = st.floats(0, 10)


@given(
    rows=st.integers(1, 20),
    size=st.integers(1, 2000),
    batches=st.integers(0, 3),
    device_rows=st.integers(0, 20),
    delay=times,
    waited=times,
    left=st.floats(-5, 10) | st.just(math.inf),
)
def test_whatever_the_state(rows, size, batches, device_rows, delay, waited, left):
    got = outcome(
        rows,
        size=size,
        batches=batches,
        device_rows=device_rows,
        delay=delay,
        oldest=NOW - waited,
        deadline=NOW + left,
    )
    if batches >= 2:
        assert got == Wait(), "at most one batch is closed ahead"
    if batches == 0 and delay == 0:
        assert isinstance(got, Close), "an idle device never waits unless it is told to"
    if batches <= 1 and (rows >= 8 or size >= 1000):
        assert got == Close("full")
    if isinstance(got, Wait) and batches == 0:
        assert got.until is not None, "nothing else would wake an idle device"
        assert NOW < got.until <= NOW - waited + delay, "never past max_queue_delay after the oldest arrival"
        assert got.until < NOW + left, "never past a deadline"


@given(delay=st.floats(1e-4, 10), left=st.floats(1e-4, 20) | st.just(math.inf))
def test_waking_when_told_soon_closes_the_batch_in_time(delay, left):
    deadline = NOW + left
    assume(deadline > NOW)
    now, turns = NOW, 0
    while True:
        got = outcome(1, size=1, delay=delay, deadline=deadline, now=now)
        if isinstance(got, Close):
            break
        assert got.until is not None
        now, turns = got.until, turns + 1
        assert turns < 20, "a batch that halves its wait for ever"
    assert now <= NOW + delay
    assert now < deadline
    assert got.reason == ("delay" if now == NOW + delay else "deadline")
