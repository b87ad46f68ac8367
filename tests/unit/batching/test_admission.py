"""The door: what it lets in, what it turns away and with which hint."""

from __future__ import annotations

from functools import partial

import pytest

from samplerd_server.batching.admission import Admission
from samplerd_server.batching.cost_model import CostModel
from samplerd_server.batching.policy import DeviceState
from samplerd_server.batching.queue import TicketQueue
from samplerd_server.batching.slicer import Slicer
from samplerd_server.config import AdmissionConfig, BatchingConfig
from samplerd_server.core.errors import DeadlineError, InvalidRequestError, OverloadedError, UnavailableError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.grpcio.server import FINISH_FIRST_S
from tests.support.requests import ticket

NOW = 50.0


@pytest.fixture
def queue():
    return TicketQueue()


@pytest.fixture
def cost_model():
    return CostModel()


@pytest.fixture
def slicer(cost_model):
    return Slicer(BatchingConfig(), cost_model=cost_model, metrics=Metrics())


@pytest.fixture
def device():
    return DeviceState()


@pytest.fixture
def make_admission(queue, slicer, device, cost_model):
    return partial(Admission, queue=queue, slicer=slicer, device=device, cost_model=cost_model)


@pytest.fixture
def admission(make_admission):
    # Tickets of these tests have four numbers a row: 16 bytes.
    return make_admission(AdmissionConfig(queue_rows=10, queue_bytes=1600))


def overload(admission, one) -> OverloadedError:
    with pytest.raises(OverloadedError) as caught:
        admission.check(one, NOW)
    return caught.value


def test_rows_are_bounded_up_to_the_last(admission, queue):
    queue.add(ticket(rows=7))
    admission.check(ticket(rows=3), NOW)
    error = overload(admission, ticket(rows=4))
    assert (error.reason, error.message) == ("queue_rows", "the queue is full: 7 rows wait")
    queue.take(100, 1 << 30)
    admission.check(ticket(rows=4), NOW)


def test_bytes_are_bounded_up_to_the_last(admission, queue):
    queue.add(ticket(vocab_size=300))
    admission.check(ticket(vocab_size=100), NOW)
    error = overload(admission, ticket(vocab_size=101))
    assert (error.reason, error.message) == ("queue_bytes", "the queue is full: 1200 bytes wait")


@pytest.mark.parametrize("fields", [{"rows": 11, "vocab_size": 1}, {"vocab_size": 401}])
def test_what_can_never_fit_is_not_worth_a_retry(admission, fields):
    with pytest.raises(InvalidRequestError, match="more than the queue holds"):
        admission.check(ticket(**fields), NOW)


def test_an_expired_request_is_turned_away(admission):
    with pytest.raises(DeadlineError):
        admission.check(ticket(deadline=NOW), NOW)
    admission.check(ticket(deadline=NOW + 1e-3), NOW)


def test_a_request_that_would_be_late_is_turned_away_while_others_wait(admission, queue, cost_model):
    for work in (100, 1000) * 10:
        cost_model.learn(work, work * 1e-3)
    queue.add(ticket(vocab_size=250))  # 1,000 bytes: a second
    admission.check(ticket(deadline=NOW + 1.1), NOW)
    error = overload(admission, ticket(deadline=NOW + 0.9))
    assert error.reason == "deadline"
    assert error.retry_after_s == pytest.approx(1.0, rel=0.05)
    admission.check(ticket(), NOW)


def test_an_empty_queue_lets_in_what_is_predicted_late_so_that_the_prediction_can_be_corrected(admission, cost_model):
    cost_model.learn(16, 100.0)  # a cold start
    assert cost_model.predict(1000) > 1.0
    admission.check(ticket(vocab_size=250, deadline=NOW + 1.0), NOW)


def test_a_queue_that_takes_longer_than_it_may_turns_all_away(make_admission, queue, cost_model):
    admission = make_admission(AdmissionConfig(max_queue_wait_s=0.5))
    for work in (100, 1000) * 10:
        cost_model.learn(work, work * 1e-3)
    admission.check(ticket(vocab_size=1000), NOW)  # an empty queue takes any request
    queue.add(ticket(vocab_size=100))
    admission.check(ticket(vocab_size=1000), NOW)
    queue.add(ticket(vocab_size=100))
    error = overload(admission, ticket())
    assert error.reason == "queue_wait"
    assert error.message.startswith("the queue is full: it takes 0.")
    assert error.retry_after_s == pytest.approx(0.8, rel=0.1)


def test_what_the_device_still_has_to_finish_counts_as_a_wait(make_admission, queue, device, cost_model):
    admission = make_admission(AdmissionConfig(max_queue_wait_s=0.55))
    for work in (100, 1000) * 10:
        cost_model.learn(work, work * 1e-3)
    device.begin(NOW - 0.3, 0.4)
    device.begin(NOW - 0.2, 0.3)  # 0.1 s of the first are left
    admission.check(ticket(), NOW)
    queue.add(ticket(vocab_size=50))  # 0.2 s
    error = overload(admission, ticket())
    assert error.reason == "queue_wait"
    assert error.message.startswith("the queue is full: it takes 0.60")
    assert error.retry_after_s == pytest.approx(0.6, rel=0.01)
    device.finish(NOW)
    admission.check(ticket(), NOW)


def test_a_request_that_is_due_before_the_device_is_free_is_turned_away(admission, device):
    device.begin(NOW - 1.0, 3.0)
    admission.check(ticket(deadline=NOW + 2.1), NOW)
    error = overload(admission, ticket(deadline=NOW + 1.9))
    assert (error.reason, error.retry_after_s) == ("deadline", pytest.approx(2.0))
    admission.check(ticket(), NOW)


def test_a_batch_that_takes_longer_than_predicted_may_end_at_any_moment(admission, device):
    device.begin(NOW - 5.0, 3.0)
    admission.check(ticket(deadline=NOW + 1e-3), NOW)


def test_the_hint_is_bounded(admission, queue, cost_model):
    queue.add(ticket(rows=10))
    assert overload(admission, ticket()).retry_after_s == 0.005
    cost_model.learn(16, 100.0)
    assert overload(admission, ticket()).retry_after_s == 5.0


def test_four_attempts_of_a_refused_client_span_what_may_finish_first(admission):
    admission.gate.close(NOW)
    waited = 0.0
    for _ in range(3):
        with pytest.raises(UnavailableError) as caught:
            admission.check(ticket(), NOW + waited)
        waited += caught.value.retry_after_s
    assert waited > FINISH_FIRST_S + 0.15
    with pytest.raises(UnavailableError) as caught:
        admission.check(ticket(), NOW + 3600)
    assert caught.value.retry_after_s == 5.0


def test_draining_turns_everything_away(admission):
    admission.check(ticket(), NOW)
    admission.gate.close(NOW)
    with pytest.raises(UnavailableError, match="draining"):
        admission.check(ticket(), NOW)
    # Even what is expired or too large: another server is to say so.
    with pytest.raises(UnavailableError):
        admission.check(ticket(deadline=NOW - 1, rows=11), NOW)
