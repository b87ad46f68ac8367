"""What answers while the server starts, and how the real server takes over."""

from __future__ import annotations

import asyncio
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from samplerd_client.channel import ChannelConfig, open_channel
from samplerd_server.config import SecurityConfig
from samplerd_server.core.errors import BindError
from samplerd_server.transport.grpcio.certificates import Certificates
from samplerd_server.transport.grpcio.starting import StartingServer

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PLAIN = Certificates(SecurityConfig())


@pytest.fixture
async def starting(tmp_path):
    server = StartingServer(("127.0.0.1:0", f"unix:{tmp_path}/s"), PLAIN)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(starting):
    async with grpc.aio.insecure_channel(starting.addresses[0]) as own:
        yield own


async def test_health_is_not_serving(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "samplerd.v1.Sampler"):
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert reply.status == NOT_SERVING


async def test_every_other_call_is_refused_with_a_hint(channel):
    stub = sampler_pb2_grpc.SamplerServiceStub(channel)
    for call in (
        stub.Sample(pb.SampleRequest(), timeout=30),
        stub.SampleStream(iter([pb.SampleRequest()]), timeout=30),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call.read() if hasattr(call, "read") else call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the server is starting, and is not ready yet"
        assert ("grpc-retry-pushback-ms", "1000") in tuple(caught.value.trailing_metadata())


async def test_a_watch_ends_with_the_start(starting, channel):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert (await watch.read()).status == NOT_SERVING
    stopping = asyncio.ensure_future(starting.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await stopping


async def test_a_port_can_be_shared_by_who_asks_for_it_only(starting):
    host, _, port = starting.addresses[0].rpartition(":")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((host, int(port)))
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind((host, int(port)))


async def test_a_taken_port_is_named_at_once(starting):
    with pytest.raises(BindError, match=r"is the port taken\?"):
        await StartingServer(starting.addresses[:1], PLAIN).start()


async def test_a_unix_socket_is_left_to_the_real_server(starting, tmp_path):
    assert starting.addresses[1] == f"unix:{tmp_path}/s"
    assert not (tmp_path / "s").exists()


async def test_it_may_end_before_it_began():
    await StartingServer(("127.0.0.1:0",), PLAIN).stop()


async def test_the_client_goes_around_a_proxy_to_this_machine(starting, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with open_channel(ChannelConfig(target=starting.addresses[0])) as own:
        reply = await health_pb2_grpc.HealthStub(own).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert reply.status == NOT_SERVING
    async with grpc.aio.insecure_channel(starting.addresses[0]) as other:
        with pytest.raises(grpc.aio.AioRpcError):
            await health_pb2_grpc.HealthStub(other).Check(health_pb2.HealthCheckRequest(), timeout=30)
