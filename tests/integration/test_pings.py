"""Clients that keep an idle connection alive by pings are not cut, whether or not the server sends pings itself."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")
_IDLE_S = 8.0
_PINGING = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_time_between_pings_ms", 1000),
)


@pytest.mark.parametrize("keepalive", ["0s", "120s"])
@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_idle_clients_that_ping_are_not_cut(transport, keepalive):
    daemon = await asyncio.to_thread(Daemon("--transport", transport, "--keepalive", keepalive).__enter__)
    request = pb.SampleRequest(tensor=tensor(one_hot(1, 100, 42)))
    async with (
        grpc.aio.insecure_channel(daemon.address, options=_PINGING) as idle,
        grpc.aio.insecure_channel(daemon.address, options=(*_PINGING, ("grpc.use_local_subchannel_pool", 1))) as open_,
    ):
        await stub(idle).Sample(request)
        stream = stub(open_).SampleStream()
        await stream.write(request)
        assert (await asyncio.wait_for(stream.read(), WAIT_S)).samples
        states: list[grpc.ChannelConnectivity] = []
        watching = asyncio.ensure_future(watch(idle, states))
        await asyncio.sleep(_IDLE_S)
        watching.cancel()
        # A connection that is cut by GOAWAY leaves READY; an open stream on one ends as UNAVAILABLE.
        assert set(states) == {grpc.ChannelConnectivity.READY}
        await stream.write(request)
        assert (await asyncio.wait_for(stream.read(), WAIT_S)).samples
        await stream.done_writing()
        assert await asyncio.wait_for(stream.code(), WAIT_S) is grpc.StatusCode.OK
    await asyncio.to_thread(daemon.__exit__)


async def watch(channel: grpc.aio.Channel, states: list[grpc.ChannelConnectivity]) -> None:
    """Note every state that a channel takes."""
    while True:
        states.append(channel.get_state())
        await channel.wait_for_state_change(states[-1])
