"""What the transport `grpcio` keeps of calls is gone once they have ended, however they did."""

from __future__ import annotations

import asyncio
import struct

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.engine import HeldSampler
from tests.support.http2 import Connection
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served, connect, failure, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
CALLERS = 6
GOOD = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))


def kept(server) -> dict[str, object]:
    """What `GrpcServer` holds of calls, by name; nothing of an empty value."""
    lines = server._lines
    found = {
        "lines": dict(lines._lines),
        "ready": dict(lines._ready),
        "held": lines._held,
        "begun": lines._begun,
        "waiting": lines.waiting,
        "takers": [] if len(lines._takers) <= len(server._acceptors) else list(lines._takers),
    }
    for number, own in enumerate(server._arrivals):
        found |= {f"calls {number}": set(own._calls), f"handed {number}": list(own.handed)}
        found |= {f"points {number}": [] if len(own._points) <= 3 else list(own._points)}
    return {name: value for name, value in found.items() if value}


async def misbehave(channel: grpc.aio.Channel) -> set[CODE]:
    """Make one call of every kind of end; returns the codes."""
    service = stub(channel)
    await service.Sample(GOOD)
    failing = [
        service.Sample(pb.SampleRequest(id=2)),
        service.Sample(GOOD, timeout=1e-6),
        service.Sample(pb.SampleRequest(tensor=tensor(one_hot(1, 1 << 19, 7)))),
        channel.unary_unary("/no.Service/Method")(b""),
    ]
    codes = {(await failure(call)).code() for call in failing}
    stream = service.SampleStream()
    await stream.write(GOOD)
    assert (await stream.read()).id == 1
    stream.cancel()
    closed = service.SampleStream()
    await closed.write(GOOD)
    await closed.done_writing()
    assert [reply.id async for reply in closed] == [1]
    cancelled = [service.Sample(GOOD) for _ in range(20)]
    for call in cancelled:
        call.cancel()
    return codes


def break_off(address: str) -> None:
    """Reset calls as they begin, and leave the halves of others with the connection."""
    body = GOOD.SerializeToString()
    with Connection(address) as own:
        for _ in range(50):
            own.reset(own.start())
        for _ in range(10):
            own.send(own.start(), struct.pack(">BI", 0, len(body)) + body[:5])


async def test_nothing_is_kept_of_calls_that_have_ended(tmp_path):
    sampler = HeldSampler()
    sampler.open()
    transport = {"listen": ("127.0.0.1:0", f"unix:{tmp_path / 's'}"), "max_message_bytes": 1 << 20}
    async with Served(sampler, transport=transport) as served:
        server = served.app.server
        for address in server.addresses:
            channels = [connect(address) for _ in range(CALLERS)]
            ended = await asyncio.gather(*(misbehave(channel) for channel in channels))
            assert set.union(*ended) == {
                CODE.INVALID_ARGUMENT,
                CODE.DEADLINE_EXCEEDED,
                CODE.RESOURCE_EXHAUSTED,
                CODE.UNIMPLEMENTED,
            }
            assert any(own.taken for own in server._arrivals)
            for channel in channels:
                await channel.close()
        await asyncio.gather(*(asyncio.to_thread(break_off, server.addresses[0]) for _ in range(CALLERS)))
        await served.channel.close()
        async with asyncio.timeout(WAIT_S):
            while kept(server):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert all(own.is_used for own in server._acceptors)
