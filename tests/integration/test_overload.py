"""Full queues, deadlines, cancelled calls and streams, on a server whose device stands still until it is let go."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import Code
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
LATE_S = 1.0
"""A deadline that passes soon, and not before its call is seen in the queue, though other work holds the machine."""


def ask(number: int, *, rows: int = 1, **fields) -> pb.SampleRequest:
    """A request whose only answer is `number`."""
    return pb.SampleRequest(id=number, tensor=tensor(one_hot(rows, 100, number % 100)), **fields)


async def occupy(served: Served) -> list:
    """One batch at the device and one closed ahead: whatever comes now waits in the queue."""
    calls = [served.stub.Sample(ask(90))]
    await served.entered()
    calls.append(served.stub.Sample(ask(91)))
    await served.until(lambda: served.app.batcher.in_flight == 2)
    assert served.app.queue.rows == 0
    return calls


async def queue_up(served: Served, *requests: pb.SampleRequest, **options) -> list:
    """Calls that wait in the queue."""
    before = len(served.app.queue)
    calls = [served.stub.Sample(request, **options) for request in requests]
    await served.until(lambda: len(served.app.queue) == before + len(requests))
    return calls


async def answers(calls) -> list[list[int]]:
    return [list(reply.samples) for reply in await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)]


async def test_while_the_device_works_the_rest_waits_and_everyone_gets_their_own(serve):
    async with serve(batching={"max_rows": 8}) as served:
        calls = await occupy(served)
        calls += await queue_up(served, *(ask(number) for number in range(20)))
        assert served.app.batcher.in_flight == 22
        served.sampler.open()
        assert await answers(calls) == [[90], [91], *([number] for number in range(20))]
        # The third batch could only be closed when the first was done.
        assert sum(served.sampler.batches) == 22
        assert served.sampler.batches[:3] == [1, 1, 8]
        assert served.app.batcher.in_flight == 0


# Cancelled calls.


async def test_cancelled_calls_leave_the_queue_and_are_never_computed(serve):
    async with serve(metrics={"listen": "127.0.0.1:0"}) as served:
        kept = await occupy(served)
        gone = await queue_up(served, *(ask(number) for number in range(10)))
        kept += await queue_up(served, ask(50))
        for call in gone:
            call.cancel()
        await served.until(lambda: served.metrics.requests.value("Sample", "CANCELLED") == 10)
        # Their places are given back while the device still works.
        await served.until(lambda: served.app.queue.rows == 1)
        served.sampler.open()
        assert await answers(kept) == [[90], [91], [50]]
        assert served.sampler.batches == [1, 1, 1]
        seen = await served.scrape()
        assert seen['samplerd_cancelled_total{stage="queued"}'] == 10
        assert seen["samplerd_samples_total"] == 3
        assert seen["samplerd_queue_rows"] == seen["samplerd_queue_bytes"] == seen["samplerd_in_flight_requests"] == 0


async def test_a_call_cancelled_at_the_device_is_counted_as_computed(serve):
    async with serve() as served:
        call = served.stub.Sample(ask(1))
        await served.entered()
        call.cancel()
        await served.until(lambda: served.metrics.requests.value("Sample", "CANCELLED") == 1)
        served.sampler.open()
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert served.metrics.cancelled.value("computed") == 1
        assert served.metrics.cancelled.value("queued") == 0


async def test_a_cancelled_stream_takes_its_queued_requests_with_it(serve):
    async with serve() as served:
        kept = await occupy(served)
        stream = served.stub.SampleStream()
        for number in range(10):
            await stream.write(ask(number))
        await served.until(lambda: len(served.app.queue) == 10)
        stream.cancel()
        # Their places are given back while the device still works.
        await served.until(lambda: served.app.queue.rows == 0)
        served.sampler.open()
        assert await answers(kept) == [[90], [91]]
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert served.metrics.cancelled.value("queued") == 10
        assert served.metrics.requests.value("SampleStream", "CANCELLED") == 10
        assert served.sampler.batches == [1, 1]


# Deadlines.


async def test_what_expires_in_the_queue_is_answered_and_never_computed(serve):
    async with serve() as served:
        kept = await occupy(served)
        kept += await queue_up(served, ask(2), timeout=WAIT_S)
        (late,) = await queue_up(served, ask(1), timeout=LATE_S)
        assert (await failure(late)).code() is CODE.DEADLINE_EXCEEDED
        # The client's clock may be the first to notice; its call is cancelled then.
        requests = served.metrics.requests
        codes = ("DEADLINE_EXCEEDED", "CANCELLED")
        await served.until(lambda: sum(requests.value("Sample", code) for code in codes) == 1)
        served.sampler.open()
        assert await answers(kept) == [[90], [91], [2]]
        assert served.sampler.batches == [1, 1, 1]
        dropped = (served.metrics.expired.value(), served.metrics.cancelled.value("queued"))
        assert dropped in {(1, 0), (0, 1)}


async def test_a_stream_has_its_deadline_too(serve):
    async with serve() as served:
        kept = await occupy(served)
        stream = served.stub.SampleStream(timeout=LATE_S)
        await stream.write(ask(1))
        await served.until(lambda: len(served.app.queue) == 1)
        assert (await failure(stream.read())).code() is CODE.DEADLINE_EXCEEDED
        await served.until(lambda: served.app.observer.in_flight == 2)
        served.sampler.open()
        assert await answers(kept) == [[90], [91]]
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert served.sampler.batches == [1, 1]


async def test_what_is_predicted_late_is_turned_away_at_once(serve):
    async with serve() as served:
        kept = await occupy(served)
        kept += await queue_up(served, ask(1))
        for work in (100, 1000) * 10:
            served.app.batcher._cost_model.learn(work, work * 0.1)
        error = await failure(served.stub.Sample(ask(2), timeout=WAIT_S))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        assert details(status_of(error))["ErrorInfo"].reason == "DEADLINE"
        assert served.metrics.shed.value("deadline") == 1
        served.sampler.open()
        assert await answers(kept) == [[90], [91], [1]]


# A full queue.


@pytest.mark.parametrize(
    ("bounds", "reason"), [({"queue_rows": 4}, "queue_rows"), ({"queue_bytes": 4 * 400 + 100}, "queue_bytes")]
)
async def test_a_full_queue_says_when_to_come_back_and_then_has_room(serve, bounds, reason):
    async with serve(admission=bounds) as served:
        calls = await occupy(served)
        calls += await queue_up(served, ask(1), ask(2, rows=2))
        error = await failure(served.stub.Sample(ask(3, rows=2)))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        assert "the queue is full" in error.details()
        told = details(status_of(error))
        assert told["ErrorInfo"].reason == reason.upper()
        pushback_ms = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
        assert 5 <= pushback_ms <= 5000
        assert abs(told["RetryInfo"].retry_delay.ToMilliseconds() - pushback_ms) <= 1
        assert served.metrics.shed.value(reason) == 1
        # What still fits is let in.
        calls += await queue_up(served, ask(4))
        served.sampler.open()
        assert await answers(calls) == [[90], [91], [1], [2, 2], [4]]
        assert list((await served.stub.Sample(ask(3, rows=2))).samples) == [3, 3]


async def test_on_a_stream_a_full_queue_is_an_error_of_the_request(serve):
    async with serve(admission={"queue_rows": 1}) as served:
        calls = await occupy(served)
        stream = served.stub.SampleStream()
        for number in (1, 2):
            await stream.write(ask(number))
        refused = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (refused.id, refused.error.code, refused.final) == (2, Code.RESOURCE_EXHAUSTED, True)
        assert details(refused.error)["RetryInfo"].retry_delay.ToMilliseconds() >= 5
        served.sampler.open()
        answered = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (answered.id, list(answered.samples)) == (1, [1])
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        await answers(calls)


async def test_a_connection_that_floods_leaves_others_their_share(serve):
    async with serve(batching={"max_rows": 8}) as served:
        calls = await occupy(served)
        await queue_up(served, *(ask(number) for number in range(40)))
        other = connect(served.address)
        late = stub(other).Sample(ask(77))
        await served.until(lambda: len(served.app.queue) == 41)
        first = late.add_done_callback
        done = asyncio.Event()
        first(lambda _: done.set())
        served.sampler.open()
        await asyncio.wait_for(done.wait(), WAIT_S)
        assert list((await late).samples) == [77]
        # Two batches were closed before it came; it is in the next.
        assert len(served.sampler.batches) >= 3
        assert (await late).timing.batch_rows == 8
        await answers(calls)
        await other.close()


# Streams.


async def test_replies_come_in_the_order_of_completion(serve):
    async with serve() as served:
        stream = served.stub.SampleStream()
        await stream.write(ask(1))
        await served.entered()
        await stream.write(pb.SampleRequest(id=2))
        failed = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (failed.id, failed.error.code, failed.final) == (2, Code.INVALID_ARGUMENT, True)
        served.sampler.open()
        assert (await stream.read()).id == 1
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is CODE.OK


async def test_a_stream_is_read_no_further_than_its_bound(serve):
    async with serve(transport={"max_stream_requests": 4}) as served:
        stream = served.stub.SampleStream()
        for number in range(10):
            await stream.write(ask(number))
        await served.until(lambda: served.app.batcher.in_flight == 4)
        await served.round_trip(20)
        assert served.app.batcher.in_flight == 4
        served.sampler.open()
        seen = [(await asyncio.wait_for(stream.read(), WAIT_S)).id for _ in range(10)]
        assert sorted(seen) == list(range(10))
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_failing_requests_count_against_the_bound_until_they_are_written(serve):
    async with serve(transport={"max_stream_requests": 2}) as served:
        served.sampler.open()
        stream = served.stub.SampleStream()
        for number in range(50):
            await stream.write(pb.SampleRequest(id=number))
        await stream.done_writing()
        replies = [reply async for reply in stream]
        assert [reply.id for reply in replies] == list(range(50))
        assert {reply.error.code for reply in replies} == {Code.INVALID_ARGUMENT}


async def test_after_the_half_close_everything_in_flight_is_answered(serve):
    async with serve() as served:
        stream = served.stub.SampleStream()
        for number in range(5):
            await stream.write(ask(number))
        await stream.done_writing()
        await served.until(lambda: served.app.batcher.in_flight == 5)
        served.sampler.open()
        assert sorted([reply.id async for reply in stream]) == list(range(5))
        assert await stream.code() is CODE.OK


async def test_a_stream_without_requests_ends_well(serve):
    async with serve() as served:
        stream = served.stub.SampleStream()
        await stream.done_writing()
        assert [reply async for reply in stream] == []
        assert await stream.code() is CODE.OK
