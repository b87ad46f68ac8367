"""Of a call that its client cancels each batch of operations ends, so that grpcio frees what it has allocated."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.grpcio import batches, stream_context
from tests.support.engine import HeldSampler
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

GOOD = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))
UPLOAD = pb.CreateDistributionRequest(name="words", tensor=GOOD.tensor)
ENDLESS = pb.SampleRequest(distribution="words", num_samples=1 << 30)
CALLERS = 20


async def cancel_unary(service, turns):
    """Cancel a call while its message is on its way, or drawn."""
    call = service.Sample(GOOD)
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    return call


async def cancel_draw(service, turns):
    """Cancel a large draw while its chunks are written."""
    call = service.SampleDistribution(ENDLESS)
    for _ in range(turns % 3):
        await call.read()
    call.cancel()
    return call


async def cancel_stream(service, turns):
    """Cancel a stream while it is read from."""
    call = service.SampleStream()
    await call.write(GOOD)
    if turns % 2:
        await call.read()
    call.cancel()
    return call


async def pass_deadline(service, turns):
    """Let the deadline of a large draw pass."""
    return service.SampleDistribution(ENDLESS, timeout=1e-3 * (1 + turns % 5))


async def end_calls(served, kind, count):
    """Make calls of a kind, several at a time, and wait until the server has forgotten them."""

    async def calls():
        for number in range(count // CALLERS):
            call = await kind(served.stub, number % 40)
            with contextlib.suppress(asyncio.CancelledError):
                await call.code()

    await asyncio.gather(*(calls() for _ in range(CALLERS)))
    async with asyncio.timeout(WAIT_S):
        while any(own._calls for own in served.app.server._arrivals):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


KINDS = (cancel_unary, cancel_draw, cancel_stream, pass_deadline)


async def test_every_batch_of_a_cancelled_call_ends(monkeypatch):
    counts: Counter[str] = Counter()
    begin = batches.begin

    async def counted(*arguments):
        counts["begun"] += 1
        try:
            await begin(*arguments)
        except BaseException:
            counts["broken"] += 1
            raise
        counts["ended"] += 1

    monkeypatch.setattr(batches, "begin", counted)
    monkeypatch.setattr(stream_context, "begin", counted)
    sampler = HeldSampler()
    sampler.open()
    async with Served(sampler) as served:
        await served.stub.CreateDistribution(UPLOAD)
        for kind in KINDS:
            before = counts["begun"]
            await end_calls(served, kind, 400)
            assert counts["begun"] > before + 400
        async with asyncio.timeout(WAIT_S):
            while counts["ended"] < counts["begun"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not counts["broken"]
