"""Long requests on a device that does as the test says: slices, who runs between them, and how a request ends early."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_server.batching.admission import Admission
from samplerd_server.batching.slices import MOST_BEGUN, LongRequests
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.config import AdmissionConfig
from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.errors import DeadlineError, InternalError, OverloadedError
from samplerd_server.sampling.price import prices_of
from tests.support.bench import Bench
from tests.support.engine import argmax
from tests.support.requests import Reply, one_hot, request

ROWS, DRAWS = 40, 300
"""Of a long request: 40 times about 0.1 ms."""


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch, max_rows=8, max_slice_s=1e-3)


def long_ticket(now=0.0, *, rows=ROWS, connection="a", deadline=NO_DEADLINE, priority=0, **fields) -> Ticket:
    asked = request(one_hot(rows, 4, np.arange(rows) % 4), num_samples=DRAWS, priority=priority, **fields)
    work = int(rows * prices_of(asked)[0].total(DRAWS))
    asked = request(one_hot(rows, 4, np.arange(rows) % 4), num_samples=DRAWS, priority=priority, work=work, **fields)
    return Ticket(asked, now, deadline, connection, Reply())


def send_long(bench, **fields) -> Ticket:
    one = long_ticket(bench.now, **fields)
    bench.batcher.enqueue(one)
    bench.loop.turn()
    return one


def slice_s(bench) -> float:
    """What the oldest batch takes on a machine whose prices are right."""
    return 1e-9 * bench.device.submitted[0][0].work


def finish(bench, **fields) -> None:
    bench.finish(compute_s=slice_s(bench), **fields)


def test_a_long_request_runs_in_slices_one_at_a_time(bench):
    one = send_long(bench)
    rows = []
    while not one.reply.done():
        assert len(bench.device.submitted) == 1, "a slice is never closed ahead"
        assert slice_s(bench) <= 1e-3
        assert bench.batcher.in_flight == 1
        rows += bench.device.sizes()
        finish(bench)
    assert sum(rows) == ROWS
    assert rows[0] < rows[1], "the first slice is shorter, since nothing is known"
    assert len(rows) <= 7
    answer = one.reply.result()
    assert answer.samples.tolist() == np.repeat(np.arange(ROWS) % 4, DRAWS).tolist()
    assert answer.timing.batch_rows == ROWS
    assert answer.timing.compute_s == pytest.approx(1e-9 * one.work)
    metrics = bench.metrics
    assert metrics.batches.value("slice") == len(rows)
    assert (metrics.rows.value("random"), metrics.samples.value()) == (ROWS, ROWS * DRAWS)
    assert metrics.input_bytes.value() == one.size_bytes
    assert (bench.batcher.in_flight, bench.device.submitted) == (0, [])


def test_the_draws_of_one_row_are_cut_too(bench):
    asked = request(one_hot(1, 4, 2), num_samples=20_000, work=7_000_000)
    one = Ticket(asked, bench.now, NO_DEADLINE, "a", Reply())
    bench.batcher.enqueue(one)
    bench.loop.turn()
    slices = 0
    while not one.reply.done():
        finish(bench)
        slices += 1
    assert 7 <= slices <= 10
    assert one.reply.result().samples.tolist() == [2] * 20_000
    assert bench.metrics.rows.value("random") == 1, "a row that is drawn from in many slices is one row"
    assert bench.metrics.samples.value() == 20_000
    assert bench.metrics.input_bytes.value() == 16


def test_a_slice_follows_the_speed_of_the_device(bench):
    one = send_long(bench)
    sizes = []
    while not one.reply.done():
        sizes += bench.device.sizes()
        bench.finish(compute_s=4 * slice_s(bench))
    assert max(sizes[1:]) <= 3, "each slice is a quarter of what it would be on the machine of the prices"


def test_slices_put_a_wrong_prediction_right(bench):
    """A device ten times as fast as it seemed would have cut such requests for ever."""
    bench.cost_model.learn(10_000, 20e-6)
    bench.cost_model.learn(500_000, 1e-3)
    asked = request(np.zeros((4, 4)), num_samples=1_000, work=2_000_000)
    sliced = 0
    while bench.slicer.is_long(one := Ticket(asked, bench.now, NO_DEADLINE, "a", Reply())):
        sliced += 1
        assert sliced < 20
        bench.batcher.enqueue(one)
        bench.loop.turn()
        while not one.reply.done():
            bench.finish(compute_s=slice_s(bench) / 10)
    assert sliced >= 1


def test_whoever_arrives_during_a_slice_runs_before_the_next_one(bench):
    long = send_long(bench)
    small = [bench.send(connection=name) for name in "abc"]
    bench.loop.turn()
    assert len(bench.device.submitted) == 1, "nothing is closed ahead behind a slice"
    finish(bench)
    assert bench.device.sizes() == [3], "all of them in one batch, alone"
    bench.finish(compute_s=1e-5)
    assert all(one.reply.done() for one in small)
    assert not long.reply.done()
    assert bench.device.sizes()[0] > 3, "the device goes on with the long request"


def test_others_cannot_hold_a_long_request_back(bench):
    long = send_long(bench)
    batches = 0
    while not long.reply.done():
        for _ in range(20):
            bench.send(connection="b")
        bench.loop.turn()
        before = bench.metrics.batches.value("slice")
        while bench.metrics.batches.value("slice") == before and not long.reply.done():
            bench.finish(compute_s=0.4e-3)
            batches += 1
            assert batches < 100
    assert bench.queue.rows > 0, "others still wait"


def test_after_a_slice_each_connection_has_as_long_as_the_slice_took(bench):
    send_long(bench)
    for name in "bcd":
        for _ in range(40):
            bench.send(connection=name)
    bench.loop.turn()
    bench.finish(compute_s=1e-3)
    spent = 0.0
    while len(bench.device.submitted[0][0]) <= 8 and bench.metrics.batches.value("slice") != 2:
        bench.finish(compute_s=0.5e-3)
        spent += 0.5e-3
    assert 3e-3 <= spent <= 3e-3 + 2 * 0.5e-3


def test_long_requests_share_the_slices_by_connection_then_by_request():
    requests = LongRequests()
    for connection in "aaab":
        requests.add(long_ticket(connection=connection))
    seconds: dict = {}
    for _ in range(60):
        own = requests.next()
        seconds[own] = seconds.get(own, 0.0) + 1.0
        requests.learn(own, 1e9, 1.0)
    shares = sorted(seconds.values())
    assert shares == [10.0, 10.0, 10.0, 30.0]


def test_a_request_that_joins_does_not_catch_up_with_the_others():
    requests = LongRequests()
    requests.add(long_ticket(connection="a"))
    for _ in range(10):
        requests.learn(requests.next(), 1e9, 1.0)
    requests.add(long_ticket(connection="b"))
    turns = []
    for _ in range(4):
        own = requests.next()
        turns.append(own.ticket.connection)
        requests.learn(own, 1e9, 1.0)
    assert sorted(turns) == ["a", "a", "b", "b"]


def test_few_requests_are_begun_and_the_others_wait_in_the_bounds_of_the_queue():
    requests = LongRequests()
    for number in range(MOST_BEGUN + 5):
        requests.add(long_ticket(connection=str(number)))
    assert requests.rows == (MOST_BEGUN + 5) * ROWS
    first = requests.next()
    assert (requests.rows, len(requests)) == (5 * ROWS, MOST_BEGUN + 5)
    assert requests.bytes == 5 * first.ticket.held_bytes
    assert requests.work == pytest.approx((MOST_BEGUN + 5) * first.ticket.work, rel=1e-6)
    requests.remove(first)
    requests.next()
    assert (requests.rows, len(requests)) == (4 * ROWS, MOST_BEGUN + 4)


def test_the_most_urgent_long_request_begins_first():
    requests = LongRequests()
    requests.add(long_ticket(0.0))
    requests.add(long_ticket(0.0, priority=5))
    assert requests.next().ticket.request.priority == 5


def test_a_request_that_is_cancelled_between_slices_stops(bench):
    gone, stays = send_long(bench), send_long(bench, connection="b")
    finish(bench)
    gone.reply.cancel()
    while not stays.reply.done():
        finish(bench)
    assert bench.metrics.cancelled.value("computed") == 1
    assert bench.metrics.samples.value() < 1.5 * ROWS * DRAWS
    assert (bench.batcher.in_flight, bench.device.submitted) == (0, [])


def test_a_request_that_is_cancelled_before_its_first_slice_is_never_computed(bench):
    first, gone = send_long(bench), send_long(bench, connection="b")
    gone.reply.cancel()
    while not first.reply.done():
        finish(bench)
    assert bench.metrics.cancelled.value("queued") == 1
    assert bench.metrics.samples.value() == ROWS * DRAWS


def test_a_request_that_is_cancelled_in_its_last_slice_is_left_alone(bench):
    one = send_long(bench)
    while bench.metrics.samples.value() < ROWS * DRAWS:
        finish(bench)
    one.reply.cancel()
    finish(bench)
    assert bench.metrics.cancelled.value("computed") == 1
    assert bench.batcher.in_flight == 0


def test_a_deadline_that_passes_between_slices_ends_the_request(bench):
    one = send_long(bench, deadline=bench.now + 1.0)
    finish(bench)
    bench.now += 1.0
    finish(bench)
    error = one.reply.exception()
    assert isinstance(error, DeadlineError)
    assert "the rest was not computed" in error.message
    assert bench.metrics.expired.value() == 1
    assert (bench.batcher.in_flight, bench.device.submitted) == (0, [])


def test_a_sampler_that_raises_in_a_slice_fails_that_request_alone(bench):
    one, other = send_long(bench), send_long(bench, connection="b")
    finish(bench, results=lambda batch: None)
    assert isinstance(one.reply.exception(), InternalError)
    while not other.reply.done():
        finish(bench)
    assert len(other.reply.result().samples) == ROWS * DRAWS


def test_rows_that_fail_in_a_slice_are_counted_and_reported(bench):
    one = send_long(bench)
    first = True

    def with_error(batch):
        nonlocal first
        results = argmax(batch)
        if first:
            results.status[1], first = RowErrorReason.NAN, False
        return results

    while not one.reply.done():
        finish(bench, results=with_error)
    (error,) = one.reply.result().row_errors
    assert (error.row, error.reason) == (1, RowErrorReason.NAN)
    assert bench.metrics.row_errors.value("nan") == 1


def test_small_requests_are_batched_up_to_a_slice(bench):
    for _ in range(6):
        one = request(np.zeros((1, 4)), work=400_000)
        bench.batcher.enqueue(Ticket(one, bench.now, NO_DEADLINE, "a", Reply()))
    bench.loop.turn()
    assert bench.device.sizes() == [2, 2], "a millisecond holds two of them"


def test_with_a_slice_of_zero_nothing_is_cut(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, max_slice_s=0.0)
    send_long(bench)
    assert bench.device.sizes() == [ROWS]
    bench.finish()
    assert bench.metrics.batches.value("slice") == 0


def test_an_idle_device_that_waits_for_a_batch_to_fill_runs_slices_meanwhile(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, max_slice_s=1e-3, max_queue_delay_s=1.0)
    send_long(bench)
    bench.send()
    bench.loop.turn()
    finish(bench)
    assert len(bench.device.submitted) == 1
    assert bench.metrics.batches.value("slice") == 2


# Admission.


@pytest.fixture
def admission(bench):
    config = AdmissionConfig(queue_rows=100, queue_bytes=1 << 20)
    return Admission(
        config, queue=bench.queue, slicer=bench.slicer, device=bench.batcher.device, cost_model=bench.cost_model
    )


def test_long_requests_that_wait_fill_the_queue_and_those_that_run_do_not(bench, admission):
    send_long(bench)
    admission.check(long_ticket(), bench.now)
    for name in "bcdefghi":
        bench.slicer.add(long_ticket(connection=name))
    assert bench.slicer.rows == 8 * ROWS
    with pytest.raises(OverloadedError, match="the queue is full"):
        admission.check(long_ticket(), bench.now)


def test_a_small_request_is_not_refused_because_a_long_one_runs(bench, admission):
    for work in (10_000, 1_000_000) * 10:
        bench.cost_model.learn(work, work * 1e-9)
    send_long(bench)
    send_long(bench, connection="b")
    soon = bench.now + 2e-3
    small = Ticket(request(np.zeros((1, 4)), work=1000), bench.now, soon, "c", Reply())
    admission.check(small, bench.now)
    with pytest.raises(OverloadedError, match="past the deadline"):
        admission.check(long_ticket(bench.now, deadline=soon), bench.now)
