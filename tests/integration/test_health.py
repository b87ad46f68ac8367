"""grpc.health.v1: Check, List and Watch, on both transports and over Connect."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.served import WAIT_S, connect, failure
from tests.support.web import frame, frames, post

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = {"", "samplerd.v1.SamplerService", "inference.GRPCInferenceService"}


async def test_list_names_every_service_with_its_health(address):
    async with connect(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        statuses = (await health.List(health_pb2.HealthListRequest())).statuses
        assert set(statuses) == SERVICES
        assert {own.status for own in statuses.values()} == {SERVING}
        for service in statuses:
            assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
        refused = await failure(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
        assert refused.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_every_change_and_a_drain_is_for_good(serve):
    async with serve() as served:
        health = health_pb2_grpc.HealthStub(served.channel)
        watching = [health.Watch(health_pb2.HealthCheckRequest(service=own)) for own in ("", "nobody")]
        assert [(await own.read()).status for own in watching] == [SERVING, UNKNOWN]
        served.app.handlers.health.set_serving(is_serving=False)
        assert (await asyncio.wait_for(watching[0].read(), WAIT_S)).status == NOT_SERVING
        served.app.handlers.health.set_serving(is_serving=True)
        assert (await asyncio.wait_for(watching[0].read(), WAIT_S)).status == SERVING
        served.app.handlers.leave()
        assert (await asyncio.wait_for(watching[0].read(), WAIT_S)).status == NOT_SERVING
        served.app.handlers.health.set_serving(is_serving=True)
        listed = await health.List(health_pb2.HealthListRequest())
        assert {own.status for own in listed.statuses.values()} == {NOT_SERVING}


async def test_a_watcher_that_does_not_read_holds_no_other_up(serve):
    # A window of the least size, and nobody reads: the server's writes to it wait.
    small = (("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0))
    async with serve() as served, connect(served.address, *small) as channel:
        asleep = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        awake = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await awake.read()).status == SERVING
        for number in range(200):
            served.app.handlers.health.set_serving(is_serving=bool(number % 2))
            await asyncio.wait_for(awake.read(), WAIT_S)
        asleep.cancel()


@pytest.mark.parametrize("method", ["Check", "List"])
async def test_over_connect(daemon, method):
    if daemon.transport == "grpcio":
        return  # `test_web` has HTTP beside grpcio, which runs the same code
    path = f"/grpc.health.v1.Health/{method}"
    status, _, body = await asyncio.to_thread(post, daemon.address, b"{}", path=path)
    assert status == 200
    told = json.loads(body)
    assert (set(told["statuses"]) == SERVICES) if method == "List" else (told == {"status": "SERVING"})


async def test_watch_over_connect_ends_with_the_client(daemon):
    if daemon.transport == "grpcio":
        return  # as above
    headers = {"connect_timeout_ms": "300"}
    path, kind = "/grpc.health.v1.Health/Watch", "application/connect+json"
    _, _, body = await asyncio.to_thread(post, daemon.address, frame(b"{}"), kind, path, **headers)
    first, end = frames(body)
    assert json.loads(first[1]) == {"status": "SERVING"}
    assert json.loads(end[1])["error"]["code"] == "deadline_exceeded"
