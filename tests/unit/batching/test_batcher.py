"""The batcher with a device, a loop and a clock that do as the test says."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.errors import DeadlineError, InternalError, UnavailableError
from samplerd_server.core.params import SamplingParams
from tests.support.bench import Bench
from tests.support.engine import argmax
from tests.support.requests import Reply, one_hot, request, ticket


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch, max_rows=8)


def test_a_lone_request_goes_to_an_idle_device_in_the_same_turn(bench):
    one = bench.send()
    assert bench.device.submitted == []
    bench.loop.turn()
    assert bench.device.sizes() == [1]
    assert not one.reply.done()
    bench.finish()
    assert one.reply.result().samples.tolist() == [0]
    assert bench.metrics.batches.value("idle") == 1


def test_a_burst_in_one_turn_is_one_batch(bench):
    for _ in range(5):
        bench.send()
    assert len(bench.loop.ready) == 1
    bench.loop.turn()
    assert bench.device.sizes() == [5]


def test_a_burst_larger_than_a_batch_is_cut_and_exactly_one_batch_is_closed_ahead(bench):
    for _ in range(30):
        bench.send()
    bench.loop.turn()
    assert bench.device.sizes() == [8, 8]
    assert bench.queue.rows == 14
    bench.finish()
    assert bench.device.sizes() == [8, 8]
    bench.finish()
    bench.finish()
    assert bench.device.sizes() == [6]
    bench.finish()
    assert (bench.device.sizes(), bench.batcher.in_flight) == ([], 0)
    assert (bench.metrics.batches.value("full"), bench.metrics.batches.value("idle")) == (3, 1)


def test_while_the_device_runs_the_next_batch_gathers_to_the_same_size(bench):
    for _ in range(3):
        bench.send()
    bench.loop.turn()
    for expected in ([3], [3], [3, 3]):
        bench.send()
        bench.loop.turn()
        assert bench.device.sizes() == expected
    bench.send()
    bench.loop.turn()
    bench.finish()
    # One runs now with three rows: the one row that waits is not worth closing for.
    assert bench.device.sizes() == [3]
    bench.finish()
    assert bench.device.sizes() == [1]


def test_everyone_gets_their_own_rows(bench):
    tickets = []
    for number in range(4):
        reply = Reply()
        asked = request(one_hot(2, 10, [number, 9 - number]), num_samples=2, id=number)
        tickets.append(Ticket(asked, bench.now, NO_DEADLINE, "a", reply))
        bench.batcher.enqueue(tickets[-1])
    bench.loop.turn()
    bench.now += 0.5
    bench.finish(compute_s=0.25)
    for number, one in enumerate(tickets):
        answer = one.reply.result()
        assert answer.samples.tolist() == [number, number, 9 - number, 9 - number]
        assert answer.timing == (0.0, 0.25, 8)


def test_a_cancelled_ticket_is_dropped_when_its_batch_is_formed(bench):
    first = bench.send()
    bench.loop.turn()
    gone, stays = bench.send(), bench.send()
    gone.reply.cancel()
    bench.finish()
    assert bench.device.sizes() == [1]
    bench.finish()
    assert (first.reply.done(), stays.reply.done()) == (True, True)
    assert bench.metrics.cancelled.value("queued") == 1
    assert bench.metrics.samples.value() == 2


def test_each_request_that_a_ticket_stands_for_counts(bench):
    gone, late = bench.send(rows=2, requests=2), bench.send(rows=2, requests=2, deadline=0.1)
    computed = bench.send(rows=3, requests=3)
    bench.loop.ready.clear()  # nothing is decided yet
    assert bench.batcher.in_flight == 7
    gone.reply.cancel()
    bench.now += 0.2
    bench.batcher.sweep(bench.now)
    assert late.reply.exception() is not None
    assert (bench.metrics.cancelled.value("queued"), bench.metrics.expired.value()) == (2, 2)
    bench.batcher.enqueue(ticket(arrival=bench.now))
    bench.batcher._decide()  # what the turn above would have called
    assert bench.batcher.in_flight == 4
    assert bench.metrics.queue_wait_seconds.summary() == (4, pytest.approx(3 * 0.2))
    computed.reply.cancel()
    bench.finish()
    assert (bench.metrics.cancelled.value("computed"), bench.batcher.in_flight) == (3, 0)


def test_a_batch_of_which_nothing_is_wanted_is_never_submitted(bench):
    for _ in range(20):
        bench.send().reply.cancel()
    bench.loop.turn()
    assert bench.device.submitted == []
    assert (bench.queue.rows, bench.batcher.in_flight) == (0, 0)
    assert bench.metrics.cancelled.value("queued") == 20
    assert sum(bench.metrics.batches.value(reason) for reason in ("full", "idle")) == 0


def test_a_reply_cancelled_during_the_computation_is_left_alone(bench):
    gone, stays = bench.send(), bench.send()
    bench.loop.turn()
    gone.reply.cancel()
    bench.finish()
    assert gone.reply.cancelled()
    assert stays.reply.result().samples.tolist() == [0]
    assert bench.metrics.cancelled.value("computed") == 1
    assert bench.metrics.cancelled.value("queued") == 0


def test_a_ticket_that_expires_in_the_queue_is_answered_and_not_computed(bench):
    bench.send()
    bench.loop.turn()
    late, patient = bench.send(deadline=0.1), bench.send(deadline=0.2)
    bench.now += 0.1
    bench.finish()
    error = late.reply.exception()
    assert isinstance(error, DeadlineError)
    assert "nothing was computed" in error.message
    assert bench.device.sizes() == [1]
    bench.finish()
    assert patient.reply.result().samples.tolist() == [0]
    assert (bench.metrics.expired.value(), bench.metrics.samples.value()) == (1, 2)


def test_a_sampler_that_raised_fails_its_batch_and_no_other(bench):
    first = bench.send()
    bench.loop.turn()
    second = bench.send()
    bench.finish(results=lambda batch: None)
    assert isinstance(first.reply.exception(), InternalError)
    bench.finish()
    assert second.reply.result().samples.tolist() == [0]
    assert bench.batcher.in_flight == 0


def test_results_that_cannot_be_unpacked_fail_their_batch(bench, caplog):
    first = bench.send()
    bench.loop.turn()

    def broken(batch):
        results = argmax(batch)
        results.status[0] = 99
        return results

    with caplog.at_level(logging.ERROR):
        bench.finish(results=broken)
    assert isinstance(first.reply.exception(), InternalError)
    assert "could not be unpacked" in caplog.text
    assert bench.batcher.in_flight == 0


def test_a_batch_that_cannot_be_packed_fails_and_the_queue_lives_on(bench, caplog):
    impossible = request([[0.0]], params=())
    first = Ticket(impossible, bench.now, NO_DEADLINE, "a", Reply())
    bench.batcher.enqueue(first)
    with caplog.at_level(logging.ERROR):
        bench.loop.turn()
    assert isinstance(first.reply.exception(), InternalError)
    assert "a batch could not be packed" in caplog.text
    second = bench.send()
    bench.loop.turn()
    bench.finish()
    assert second.reply.result().samples.tolist() == [0]


def test_counters_add_up(bench):
    greedy = request(np.zeros((2, 4)), params=(SamplingParams(temperature=0.0),), num_samples=3)
    mixed = request(np.zeros((2, 2)), params=(SamplingParams(temperature=0.0), SamplingParams()), num_samples=1)
    for asked in (greedy, mixed):
        bench.batcher.enqueue(Ticket(asked, bench.now, NO_DEADLINE, "a", Reply()))
    bench.now += 0.003
    bench.loop.turn()
    assert bench.batcher.in_flight == 2

    def with_errors(batch):
        results = argmax(batch)
        results.status[[0, 3]] = RowErrorReason.NAN
        results.status[1] = RowErrorReason.NOTHING_TO_DRAW
        return results

    bench.finish(compute_s=0.002, results=with_errors)
    metrics = bench.metrics
    assert (metrics.rows.value("greedy"), metrics.rows.value("random")) == (3, 1)
    assert metrics.samples.value() == 8
    assert metrics.input_bytes.value() == 48
    assert (metrics.row_errors.value("nan"), metrics.row_errors.value("nothing_to_draw")) == (2, 1)
    sums = {
        family.name: family.samples[-1].value
        for family in metrics.collect()
        if family.type == "histogram" and family.samples
    }
    assert sums["samplerd_batch_rows"] == 4
    assert sums["samplerd_queue_wait_seconds"] == pytest.approx(0.006)
    assert sums["samplerd_compute_seconds"] == pytest.approx(0.002)


# max_queue_delay


def test_with_a_delay_a_batch_waits_for_it_once(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, max_queue_delay_s=0.01)
    bench.send()
    bench.loop.turn()
    assert bench.device.sizes() == []
    (timer,) = bench.loop.timers
    assert timer.delay == pytest.approx(0.01)
    bench.now += 0.004
    bench.send()
    bench.loop.turn()
    (timer,) = bench.loop.timers
    assert timer.delay == pytest.approx(0.006), "anchored to the oldest arrival"
    bench.now += 0.006
    timer.callback(*timer.arguments)
    bench.loop.turn()
    assert bench.device.sizes() == [2]
    assert bench.loop.timers == []
    assert bench.metrics.batches.value("delay") == 1


def test_a_timer_that_fires_early_only_looks_again(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, max_queue_delay_s=0.01)
    bench.send()
    bench.loop.turn()
    bench.now += 0.0095
    bench.loop.timers[0].callback()
    bench.loop.turn()
    assert bench.device.sizes() == []
    assert bench.loop.timers[0].delay == pytest.approx(0.0005)


def test_a_full_batch_does_not_wait_for_the_delay(monkeypatch):
    bench = Bench(monkeypatch, max_rows=2, max_queue_delay_s=10.0)
    bench.send()
    bench.loop.turn()
    bench.send()
    bench.loop.turn()
    assert bench.device.sizes() == [2]
    assert bench.loop.timers == []
    assert bench.metrics.batches.value("full") == 1


def test_a_near_deadline_cuts_the_delay_short(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, max_queue_delay_s=10.0)
    bench.send(deadline=0.5)
    bench.loop.turn()
    assert bench.device.sizes() == [1]
    assert bench.metrics.batches.value("deadline") == 1


# Small batches on the event loop.


def test_a_batch_known_to_be_small_is_run_at_once(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, event_loop_draw_limit_s=500e-6)
    bench.send()
    bench.loop.turn()
    assert bench.device.sizes() == [1], "nothing is known yet, so the first goes to the thread"
    bench.finish(compute_s=20e-6)
    one = bench.send()
    bench.loop.turn()
    assert len(bench.device.run_inline) == 1
    assert one.reply.result().samples.tolist() == [0]
    assert bench.batcher.in_flight == 0


def test_what_a_batch_waited_on_the_device_thread_does_not_send_the_next_one_there(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, event_loop_draw_limit_s=500e-6)
    bench.send()
    bench.loop.turn()
    bench.finish(compute_s=5e-3, thread_s=20e-6)
    bench.send()
    bench.loop.turn()
    assert len(bench.device.run_inline) == 1


def test_a_batch_that_takes_long_by_itself_is_sent_to_the_device_thread(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, event_loop_draw_limit_s=500e-6)
    bench.send()
    bench.loop.turn()
    bench.finish(compute_s=5e-3, thread_s=4e-3)
    bench.send()
    bench.loop.turn()
    assert bench.device.sizes() == [1]


def test_nothing_is_run_on_the_loop_while_the_device_works(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, event_loop_draw_limit_s=500e-6)
    bench.batcher.loop_cost.learn(16, 20e-6)
    bench.device.event_loop_draw_limit_s = 0.0
    bench.send()
    bench.loop.turn()
    bench.device.event_loop_draw_limit_s = 500e-6
    bench.send()
    bench.loop.turn()
    assert bench.device.sizes() == [1, 1]


def test_a_long_batch_is_not_run_on_the_loop_however_little_is_known(monkeypatch):
    bench = Bench(monkeypatch, max_rows=8, event_loop_draw_limit_s=500e-6)
    # Small batches whose times happen to fall with their work: the line through them must not say that work is free.
    for work, seconds in ((4000, 30e-6), (4100, 20e-6)) * 20:
        bench.cost_model.learn(work, seconds)
        bench.batcher.loop_cost.learn(work, seconds)
    bench.send(rows=4, vocab_size=1 << 23)
    bench.loop.turn()
    assert bench.device.sizes() == [4]


def test_a_sweep_drops_what_nobody_waits_for_though_no_batch_is_formed(bench):
    running = bench.send()
    bench.loop.turn()
    late, gone, alive = bench.send(deadline=1.0), bench.send(), bench.send()
    gone.reply.cancel()
    bench.now += 2.0
    bench.batcher.sweep(bench.now)
    assert isinstance(late.reply.exception(), DeadlineError)
    assert (bench.queue.rows, bench.batcher.in_flight) == (1, 2)
    assert (bench.metrics.expired.value(), bench.metrics.cancelled.value("queued")) == (1, 1)
    bench.finish()
    bench.finish()
    assert running.reply.result().samples.tolist() == alive.reply.result().samples.tolist() == [0]


def test_a_device_that_hangs_has_all_its_requests_failed(bench):
    running = bench.send()
    bench.loop.turn()
    queued = bench.send()
    assert bench.batcher.is_computing
    bench.batcher.fail_all(UnavailableError("hung", reason="DEVICE_STALLED"))
    assert {one.reply.exception().reason for one in (running, queued)} == {"DEVICE_STALLED"}
    assert (bench.queue.rows, bench.batcher.finished) == (0, 0)
    bench.finish()  # whatever it still finishes reaches nobody
    assert (bench.batcher.finished, bench.batcher.is_computing) == (1, False)


@pytest.mark.parametrize(("early_s", "expired"), [(0.001, 1), (0.01, 0)])
def test_a_call_that_its_transport_ends_a_little_early_has_expired(bench, early_s, expired):
    bench.send()
    bench.loop.turn()
    late = bench.send(deadline=1.0)
    late.reply.cancel()
    bench.now += 1.0 - early_s
    bench.batcher.sweep(bench.now)
    assert len(bench.queue) == 0
    assert (bench.metrics.expired.value(), bench.metrics.cancelled.value("queued")) == (expired, 1 - expired)
