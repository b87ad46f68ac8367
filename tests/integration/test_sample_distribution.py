"""Draws of any size from a distribution over a call of their own: one request, and its chunks as they are read."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from samplerd.v1 import sampler_pb2 as pb
from tests.integration.test_overload import occupy, queue_up
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODE = grpc.StatusCode
CHUNK = 1000  # --chunk-samples of the daemon
ROWS = (np.random.default_rng(7).normal(size=(3, 700)) * 2).astype(np.float32)
ENDLESS = 1 << 30


@pytest_asyncio.fixture(loop_scope="session")
async def words(service) -> Any:
    """The name of a distribution of three rows."""
    await service.CreateDistribution(pb.CreateDistributionRequest(name="words", tensor=tensor(ROWS)))
    yield "words"
    await service.DeleteDistribution(pb.DeleteDistributionRequest(name="words"))


def ask(**fields: Any) -> pb.SampleRequest:
    return pb.SampleRequest(**{"id": 7, "distribution": "words", "seed": 3, **fields})


@pytest.mark.parametrize("samples", [0, 333, CHUNK + 1])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"draw_offset": 99, "params": pb.SamplingParams(temperature=0.6)},
        {"row_seeds": [3, 2**64 - 1, 3], "seed": None, "outputs": pb.Outputs(raw_samples=True)},
        {"params": pb.SamplingParams(top_k=20), "outputs": pb.Outputs(logprobs=[1], top_n=2, kept=True)},
    ],
    ids=["plain", "offset", "row seeds", "filtered"],
)
async def test_the_chunks_are_the_unary_draw(service, words, samples, fields):
    request = ask(num_samples=samples, **fields)
    whole = await service.Sample(request)
    replies = [reply async for reply in service.SampleDistribution(request)]
    assert [(reply.id, reply.chunk) for reply in replies] == [(7, at) for at in range(len(replies))]
    assert [reply.final for reply in replies] == [False] * (len(replies) - 1) + [True]
    assert {(reply.seed, reply.rng) for reply in replies} == {(whole.seed, whole.rng)}
    drawn = [sampled for reply in replies for sampled in reply.samples]
    assert drawn == list(whole.samples)
    assert b"".join(reply.raw_samples for reply in replies) == whole.raw_samples
    assert all(max(len(reply.samples), len(reply.raw_samples) // 4) <= CHUNK for reply in replies)
    assert list(replies[0].kept_count) == list(whole.kept_count)
    logprobs = [value for reply in replies for own in reply.logprobs for value in own.samples]
    assert logprobs == [value for own in whole.logprobs for value in own.samples]


async def test_without_a_seed_all_chunks_tell_the_one_that_was_drawn(service, words):
    request = pb.SampleRequest(distribution=words, num_samples=CHUNK)
    replies = [reply async for reply in service.SampleDistribution(request)]
    (seed,) = {reply.seed for reply in replies}
    again = await service.Sample(ask(num_samples=CHUNK, seed=seed))
    assert [sampled for reply in replies for sampled in reply.samples] == list(again.samples)


async def test_whoever_does_not_read_is_not_drawn_for(service, daemon, address, words):
    """What is under way fills the windows of HTTP/2, and there the drawing ends; nobody else waits for the reader."""
    async with connect(address) as channel:
        before = daemon.metrics()["samplerd_indexed_samples_total"]
        call = stub(channel).SampleDistribution(ask(num_samples=ENDLESS))
        first = await call.read()
        drawn, again = -1.0, daemon.metrics()["samplerd_indexed_samples_total"]
        async with asyncio.timeout(WAIT_S):
            while again != drawn:
                for _ in range(20):
                    await service.GetServerInfo(pb.GetServerInfoRequest())
                drawn, again = again, daemon.metrics()["samplerd_indexed_samples_total"]
        assert CHUNK <= drawn - before < 1 << 27
        second = await call.read()
        assert [first.chunk, second.chunk] == [0, 1]
        # Deleted, its rows stay for those who have begun; once they stop reading for good, nothing is left.
        call.cancel()
    async with asyncio.timeout(WAIT_S):
        while daemon.metrics()['samplerd_requests_total{code="CANCELLED",rpc="SampleDistribution"}'] < 1:
            await service.GetServerInfo(pb.GetServerInfoRequest())


async def test_the_rows_of_a_deleted_one_are_given_back_when_the_call_ends(service, daemon):
    await service.CreateDistribution(pb.CreateDistributionRequest(name="gone", tensor=tensor(ROWS)))
    call = service.SampleDistribution(ask(distribution="gone", num_samples=ENDLESS))
    await call.read()
    await service.DeleteDistribution(pb.DeleteDistributionRequest(name="gone"))
    assert daemon.metrics()["samplerd_distribution_bytes"] > 0
    assert (await call.read()).chunk == 1
    call.cancel()
    async with asyncio.timeout(WAIT_S):
        while daemon.metrics()["samplerd_distribution_bytes"]:
            await service.GetServerInfo(pb.GetServerInfoRequest())


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"distribution": "verbs"}, CODE.NOT_FOUND, None),
        ({"distribution": "no name"}, CODE.INVALID_ARGUMENT, "distribution"),
        ({"tensor": tensor(ROWS)}, CODE.INVALID_ARGUMENT, "distribution"),
        ({"values": pb.Values(row=[pb.Values.Row(values=[1.0])])}, CODE.INVALID_ARGUMENT, "distribution"),
        ({"kind": pb.INPUT_KIND_PROBABILITIES}, CODE.INVALID_ARGUMENT, "kind"),
        ({"params": pb.SamplingParams(top_p=7.0)}, CODE.INVALID_ARGUMENT, "params.top_p"),
        ({"num_samples": ENDLESS, "replacement": pb.REPLACEMENT_WITHOUT}, CODE.INVALID_ARGUMENT, "num_samples"),
        ({"num_samples": ENDLESS, "params": pb.SamplingParams(top_k=3)}, CODE.INVALID_ARGUMENT, "num_samples"),
        ({"num_samples": 2**32 - 1}, CODE.INVALID_ARGUMENT, "num_samples"),
        ({"num_samples": 701, "replacement": pb.REPLACEMENT_WITHOUT}, CODE.INVALID_ARGUMENT, "row[0]"),
    ],
    ids=str,
)
async def test_a_failure_is_the_status_of_the_call(service, words, fields, code, field):
    error = await failure(service.SampleDistribution(ask(**fields)).read())
    assert error.code() is code
    if field is not None:
        assert details(status_of(error))["BadRequest"].field_violations[0].field == field


async def test_bytes_that_are_no_request(daemon):
    async with connect(daemon.address) as channel:
        call = channel.unary_stream("/samplerd.v1.SamplerService/SampleDistribution")(b"\xff")
        error = await failure(call.read())
    assert (error.code(), error.details()) == (CODE.INVALID_ARGUMENT, "request: not a SampleRequest")


async def test_it_is_counted_as_a_request_and_as_a_stream(service, daemon, words):
    own = 'grpc_method="SampleDistribution",grpc_service="samplerd.v1.SamplerService",grpc_type="server_stream"'
    names = (
        'samplerd_requests_total{code="OK",rpc="SampleDistribution"}',
        'samplerd_request_seconds_count{rpc="SampleDistribution"}',
        f'grpc_server_handled_total{{grpc_code="OK",{own}}}',
    )
    before = daemon.metrics()
    assert len([reply async for reply in service.SampleDistribution(ask(num_samples=CHUNK))]) == 3
    assert [daemon.metrics()[name] - before[name] for name in names] == [1, 1, 1]


# ------------------------------------------------------------------------------------------- around a held sampler

LIMITS = {"chunk_samples": 10, "max_samples": 100}


async def upload(served: Any) -> None:
    served.sampler.open()
    rows = tensor(one_hot(1, 100, 42))
    await served.stub.CreateDistribution(pb.CreateDistributionRequest(name="words", tensor=rows))
    await served.entered()
    served.sampler.hold()


async def nothing_left(served: Any) -> None:
    await served.until(lambda: served.app.observer.in_flight == 0)
    await served.until(lambda: served.app.batcher.in_flight == 0)
    await served.until(lambda: served.tasks() == [])


async def test_a_cancelled_call_gives_its_place_back(serve):
    async with serve(limits=LIMITS) as served:
        await upload(served)
        # Two chunks are at the device or queued; the others wait for their turn.
        calls = [served.stub.SampleDistribution(ask(num_samples=1000)) for _ in range(5)]
        await served.entered()
        await served.until(lambda: served.app.observer.in_flight == 5)
        for call in calls:
            call.cancel()
        await served.until(lambda: served.metrics.requests.value("SampleDistribution", "CANCELLED") == 5)
        served.sampler.open()
        replies = [reply async for reply in served.stub.SampleDistribution(ask(num_samples=25))]
        assert [list(reply.samples) for reply in replies] == [[42] * 10, [42] * 10, [42] * 5]
        await nothing_left(served)


async def test_a_deadline_ends_it_wherever_it_is(serve):
    async with serve(limits={**LIMITS, "chunk_samples": 50_000}) as served:
        await upload(served)
        held = served.stub.SampleDistribution(ask(num_samples=1 << 20), timeout=0.3)
        assert (await failure(held.read())).code() is CODE.DEADLINE_EXCEEDED
        served.sampler.open()
        for _ in range(20):  # what was held took long, and the next would be refused because of that
            assert [reply.final async for reply in served.stub.SampleDistribution(ask(num_samples=50_000))][-1]
        async with connect(served.address) as channel:  # nobody reads: its chunks of 200 kB fill the window
            unread = stub(channel).SampleDistribution(ask(num_samples=1 << 28), timeout=0.5)
            assert await asyncio.wait_for(unread.code(), WAIT_S) is CODE.DEADLINE_EXCEEDED
        await nothing_left(served)
        codes = ("DEADLINE_EXCEEDED", "CANCELLED")
        assert sum(served.metrics.requests.value("SampleDistribution", code) for code in codes) == 2


async def test_a_drain_finishes_those_that_have_begun_and_refuses_others(serve):
    async with serve(limits=LIMITS) as served:
        await upload(served)
        begun = served.stub.SampleDistribution(ask(num_samples=30))
        await served.entered()
        served.app.handlers.service.drain()
        refused = await failure(served.stub.SampleDistribution(ask()).read())
        assert refused.code() is CODE.UNAVAILABLE
        stopping = served.stop()
        served.sampler.open()
        assert [len(reply.samples) async for reply in begun] == [10, 10, 10]
        assert await begun.code() is CODE.OK
        assert await asyncio.wait_for(stopping, WAIT_S)


async def test_a_full_queue_refuses_it_with_a_hint(serve):
    async with serve(limits=LIMITS, admission={"queue_rows": 1}) as served:
        await upload(served)
        calls = await occupy(served)
        calls += await queue_up(served, pb.SampleRequest(tensor=tensor(one_hot(1, 100, 1))))
        error = await failure(served.stub.SampleDistribution(ask()).read())
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        assert "RetryInfo" in details(status_of(error))
        served.sampler.open()
        assert [list((await call).samples) for call in calls] == [[90], [91], [1]]
