"""Clients that do not read their replies: how many bytes wait for them, and that others are served meanwhile."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import MessageTooLargeError, SamplerClient
from samplerd_server.transport.rpc.reply_bytes import COPIES
from tests.support.asgi import framed
from tests.support.http2 import Connection
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAMPLES = 100_000
MIB = 1 << 20
STREAM = "/samplerd.v1.SamplerService/SampleStream"
LARGE = "/samplerd.v1.SamplerService/SampleDistribution"


def ask(samples: int = SAMPLES) -> bytes:
    """A request whose reply has four bytes a sample."""
    outputs = pb.Outputs(raw_samples=True)
    return framed(
        pb.SampleRequest(tensor=tensor(one_hot(1, 100, 7)), num_samples=samples, outputs=outputs).SerializeToString()
    )


async def in_thread(function, *arguments, **named):
    """Call what blocks while the server runs in this loop."""
    return await asyncio.wait_for(asyncio.to_thread(partial(function, *arguments, **named)), WAIT_S)


async def test_unary_replies_that_nobody_reads_are_bounded_and_shut_nobody_out(serve, request):
    # Envoy itself takes 4 MiB of each reply off the event loop: only what is larger waits there.
    is_envoy = "envoy" in request.node.callspec.id
    samples, bound, held, refusals = (2_000_000, 80 * MIB, 1, 5) if is_envoy else (SAMPLES, 16 * MIB, 5, 35)
    async with serve(admission={"reply_bytes": bound}) as served:
        served.sampler.open()
        with await in_thread(Connection, served.address, window=1000) as slow:
            calls = [await in_thread(slow.start) for _ in range(held + refusals)]
            for call in calls:
                await in_thread(slow.send, call, ask(samples), end=True)
            await served.until(lambda: served.metrics.shed.value("reply_bytes") == refusals)
            assert served.app.replies.bytes == pytest.approx(held * COPIES * 4 * samples, rel=0.01)
            with await in_thread(Connection, served.address) as polite:
                reply = await in_thread(polite.call, ask())
                assert (reply.grpc_status, len(reply.body) > 4 * SAMPLES) == (0, True)
            refused = []
            while len(refused) < refusals:
                await in_thread(slow.read)
                refused = [call for call in calls if slow.replies[call].grpc_status is not None]
            assert {slow.replies[call].grpc_status for call in refused} == {8}
            # What is read is given back.
            first = next(call for call in calls if call not in refused)
            await in_thread(slow.let, first, 1 << 24)
            reply = await in_thread(slow.finish, first)
            assert (reply.grpc_status, len(reply.body) > 4 * samples) == (0, True)
        await served.until(lambda: served.app.replies.bytes == 0)


async def test_a_reply_that_never_fits_is_refused_once_for_good(serve):
    async with serve(admission={"reply_bytes": 2 * 65536}) as served:
        served.sampler.open()
        async with SamplerClient(served.address) as client:
            with pytest.raises(MessageTooLargeError, match="ask for less at once") as caught:
                await client.sample([0.0, 1.0], num_samples=SAMPLES)
            assert caught.value.reason == "REPLY_TOO_LARGE"
            assert served.metrics.shed.value("reply_bytes") == 1  # it was not asked again
            assert len((await client.sample([0.0, 1.0], num_samples=SAMPLES // 8)).samples[0]) == SAMPLES // 8
        with await in_thread(Connection, served.address) as stream:
            reply = await in_thread(stream.call, ask(), path=STREAM)
        assert b"REPLY_TOO_LARGE" in reply.body
        assert b"RetryInfo" not in reply.body


@pytest.mark.parametrize("samples", [SAMPLES, 10_000])
async def test_replies_of_a_stream_that_nobody_reads_are_bounded(serve, samples):
    """Also replies that are too small to count by themselves."""
    async with serve(admission={"reply_bytes": 8 * MIB}, transport={"max_stream_requests": 1 << 10}) as served:
        served.sampler.open()
        with await in_thread(Connection, served.address, window=1000) as slow:
            stream = await in_thread(slow.start, path=STREAM)
            # Envoy takes some 4 MiB off the stream, and grpcio next to nothing.
            async with asyncio.timeout(WAIT_S):
                while served.metrics.shed.value("reply_bytes") < 20 or not (held := served.app.replies.bytes):
                    await in_thread(slow.send, stream, ask(samples) * (SAMPLES // samples))
            assert held <= 2 * MIB
            with await in_thread(Connection, served.address) as polite:
                assert (await in_thread(polite.call, ask())).grpc_status == 0
        await served.until(lambda: served.app.replies.bytes == 0)


@pytest.mark.parametrize("path", [STREAM, LARGE])
async def test_chunks_of_large_draws_that_nobody_reads_are_bounded(serve, path):
    bounds = {"admission": {"reply_bytes": 8 * MIB}, "limits": {"chunk_samples": SAMPLES}}
    endless = pb.SampleRequest(distribution="words", num_samples=1 << 28, outputs=pb.Outputs(raw_samples=True))
    async with serve(**bounds) as served:
        served.sampler.open()
        rows = tensor(one_hot(1, 100, 7))
        await served.stub.CreateDistribution(pb.CreateDistributionRequest(name="words", tensor=rows))
        with await in_thread(Connection, served.address, window=1000) as slow:
            call = await in_thread(slow.start, path=path)
            for _ in range(20):
                await in_thread(slow.send, call, framed(endless.SerializeToString()), end=path == LARGE)
                if path == LARGE:
                    call = await in_thread(slow.start, path=path)
            # A caller's quarter has room for four chunks and the copy of one, or for two chunks with their copies;
            # nothing else ends these draws.
            await served.until(lambda: served.metrics.shed.value("reply_bytes") >= 10)
            # Envoy takes the first chunks of each: none may wait while the next ones are drawn.
            await served.until(lambda: served.app.replies.bytes)
            assert served.app.replies.bytes <= 2 * MIB
            with await in_thread(Connection, served.address) as polite:
                assert (await in_thread(polite.call, ask())).grpc_status == 0
        await served.until(lambda: served.app.replies.bytes == 0)
