"""Clients that die, storm, stall or talk nonsense, a sampler that raises: nobody else notices and nothing is left."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support import dying_client
from tests.support.engine import HeldSampler, argmax
from tests.support.malformed import malformed
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
FIXED_TEXT = "internal error; the server's log has the cause"


def ask(number: int, **fields) -> pb.SampleRequest:
    return pb.SampleRequest(id=number, tensor=tensor(one_hot(1, 100, number % 100)), **fields)


async def serves(service) -> None:
    """The server answers as ever."""
    assert list((await asyncio.wait_for(service.Sample(ask(42)), WAIT_S)).samples) == [42]


def assert_nothing_is_left(served: Served) -> None:
    queue = served.app.queue
    assert (len(queue), queue.rows, queue.bytes, queue.work) == (0, 0, 0, 0)
    assert served.app.batcher.in_flight == 0
    service = served.app.handlers.service
    assert len(service._streams) == 0
    assert served.app.observer.in_flight == 0


# A sampler that raises.


async def test_a_sampler_that_raises_is_internal_and_its_cause_goes_to_the_log_only(caplog):
    def draw(batch):
        if (batch.rows["vocab_size"] == 13).any():
            raise RuntimeError("the secret cause")
        return argmax(batch)

    async with Served(HeldSampler(draw)) as served:
        served.sampler.open()
        unlucky = pb.SampleRequest(id=1, tensor=tensor(np.zeros(13)))
        with caplog.at_level(logging.ERROR):
            error = await failure(served.stub.Sample(unlucky))
        assert (error.code(), error.details()) == (CODE.INTERNAL, FIXED_TEXT)
        assert "secret" not in str(error.trailing_metadata())
        assert details(status_of(error))["ErrorInfo"].reason == "INTERNAL"
        assert "the secret cause" in caplog.text
        stream = served.stub.SampleStream()
        await stream.write(unlucky)
        reply = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (reply.id, reply.error.code, reply.error.message) == (1, 13, FIXED_TEXT)
        await stream.write(ask(5))
        assert list((await stream.read()).samples) == [5]
        await stream.done_writing()
        await serves(served.stub)
        assert served.metrics.requests.value("Sample", "INTERNAL") == 1
        assert await stream.read() is grpc.aio.EOF
        assert_nothing_is_left(served)


async def test_a_handler_that_raises_says_nothing_of_it(monkeypatch, caplog):
    async with Served() as served:
        served.sampler.open()

        def broken(*_arguments):
            raise KeyError("the secret cause")

        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
            patch.setattr(type(served.app.handlers.service.decoder), "decode_bytes", broken)
            error = await failure(served.stub.Sample(ask(1)))
            stream = served.stub.SampleStream()
            await stream.write(ask(2))
            reply = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (error.code(), error.details()) == (CODE.INTERNAL, FIXED_TEXT)
        assert (reply.id, reply.error.code, reply.error.message) == (2, 13, FIXED_TEXT)
        assert caplog.text.count("the secret cause") >= 2
        await stream.done_writing()
        await serves(served.stub)


# Clients that go away.


@pytest.mark.parametrize("limit", [8, 32], ids=["read no further", "read on"])
async def test_a_client_that_dies_takes_its_work_with_it(serve, limit):
    async with serve(transport={"max_stream_requests": limit}) as served:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(dying_client.__file__ or "")), served.address),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert await asyncio.wait_for(client.stdout.readline(), WAIT_S) == b"sent\n"
        in_flight = 1 + min(limit, 20)
        await served.until(lambda: served.app.batcher.in_flight == in_flight)
        client.stdin.close()
        assert await asyncio.wait_for(client.wait(), WAIT_S) == 9
        if limit == 32 or served.config.transport.transport == "grpcio":
            await served.until(lambda: not served.app.handlers.service._streams)
        # Otherwise nobody reads the stream any more, and its client is missed at the next reply.
        await served.until(lambda: served.metrics.requests.value("Sample", "CANCELLED") == 1)
        served.sampler.open()
        await served.until(lambda: served.app.batcher.in_flight == 0)
        await serves(served.stub)
        gone = sum(served.metrics.cancelled.value(stage) for stage in ("queued", "computed"))
        assert gone == in_flight if limit == 32 else gone >= 1
        await served.until(lambda: served.app.observer.in_flight == 0)
        assert_nothing_is_left(served)


async def test_100_storms_of_cancelled_calls_leave_nothing(serve):
    async with serve() as served:
        rng = random.Random(3)
        served.sampler.open()
        for _ in range(100):
            calls = [served.stub.Sample(ask(number)) for number in range(10)]
            stream = served.stub.SampleStream()
            await stream.write(ask(1))
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            for call in (*calls, stream):
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await serves(served.stub)
        await served.until(lambda: served.app.observer.in_flight == 0)
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert_nothing_is_left(served)


async def test_a_client_that_does_not_read_is_not_read_and_holds_nobody_up(serve):
    limit, draws = 4, 200_000
    async with (
        serve(transport={"max_stream_requests": limit}, limits={"chunk_samples": 50_000}) as served,
        connect(served.address) as lazy,
    ):
        served.sampler.open()
        stream = stub(lazy).SampleStream()
        writing = asyncio.create_task(write_all(stream, 40, num_samples=draws))
        # Replies of 800 kB soon fill the client's window: the writer stands, then the reader, which goes on only once
        # half of the requests are answered.
        own = served.app.handlers.service
        await served.until(lambda: own._streams._open and next(iter(own._streams._open))._in_flight > limit // 2)
        state = next(iter(own._streams._open))
        for number in range(50):
            reply = await asyncio.wait_for(served.stub.Sample(ask(number)), WAIT_S)
            assert list(reply.samples) == [number]
        assert state._in_flight <= limit
        assert len(state._outbox) <= limit
        computed = served.metrics.samples.value() / draws
        assert computed < 40, "the whole stream was computed for a client that reads nothing"
        # Once it reads, it gets everything.
        sizes = dict.fromkeys(range(40), 0)
        async with asyncio.timeout(WAIT_S):
            async for reply in stream:
                sizes[reply.id] += len(reply.raw_samples) // 4
        assert set(sizes.values()) == {draws}
        await writing
        await lazy.close()
        await served.until(lambda: served.app.observer.in_flight == 0)
        assert_nothing_is_left(served)


async def write_all(stream, count: int, **fields) -> None:
    for number in range(count):
        await stream.write(ask(number, outputs=pb.Outputs(raw_samples=True), **fields))
    await stream.done_writing()


# Nonsense on the wire.

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 64,
        PREFACE + bytes(range(256)) * 64,
        PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01" + bytes(1000),
        PREFACE,
        b"",
    ],
    ids=["http/1.1", "noise", "preface and noise", "a frame of 16 MiB", "preface alone", "nothing"],
)
async def test_garbage_hurts_nobody(daemon, service, address, data):
    family, where = socket.AF_UNIX, address.removeprefix("unix:")
    if not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        family, where = socket.AF_INET, (host, int(port))
    with socket.socket(family) as peer:
        peer.settimeout(WAIT_S)
        await asyncio.to_thread(peer.connect, where)
        await asyncio.to_thread(peer.sendall, data)
        await serves(service)
    await serves(service)
    assert daemon.process.poll() is None


# Nothing is left behind.


async def one(served: Served, service, rng: random.Random, number: int) -> str:
    """A request that succeeds, fails, or is cancelled at some moment."""
    match rng.randrange(5):
        case 0:
            error = await failure(service.Sample(malformed("one byte short")[0]))
            assert error.code() is CODE.INVALID_ARGUMENT
            return "failed"
        case 1:
            call = service.Sample(ask(number))
            for _ in range(rng.randrange(30)):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            return "cancelled"
        case 2:
            stream = service.SampleStream()
            await stream.write(ask(number))
            if rng.random() < 0.5:
                stream.cancel()
                return "cancelled"
            assert list((await stream.read()).samples) == [number % 100]
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
            return "ok"
        case _:
            assert list((await service.Sample(ask(number))).samples) == [number % 100]
            return "ok"


async def test_2000_mixed_requests_leave_no_task_and_no_ticket(serve):
    async with serve() as served:
        served.sampler.open()
        await serves(served.stub)
        rng = random.Random(8)
        await served.until(lambda: not served.tasks())
        async with connect(served.address) as channel:
            service = stub(channel)
            outcomes = []
            for start in range(0, 2000, 50):
                outcomes += await asyncio.wait_for(
                    asyncio.gather(*(one(served, service, rng, start + n) for n in range(50))), WAIT_S
                )
        assert len(outcomes) == 2000
        assert min(outcomes.count(kind) for kind in ("ok", "failed", "cancelled")) > 200
        await served.until(lambda: served.app.observer.in_flight == 0)
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert_nothing_is_left(served)

        await served.until(lambda: not served.tasks())
        started = served.metrics.grpc_server_started.total()
        handled = served.metrics.grpc_server_handled.total()
        assert started == handled
