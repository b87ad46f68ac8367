"""Doors and engines that die, and the end of them all: who loses what, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from tests.integration.test_worker_faults import TRANSPORTS, Load, worker_folder
from tests.support.daemon import Daemon
from tests.support.doors import DOORS, crowd, door_processes, engine_of
from tests.support.processes import Watched, descendants
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ENDED = {CODE.UNAVAILABLE, CODE.CANCELLED, CODE.UNKNOWN, CODE.INTERNAL}
"""How calls fail whose server has gone."""
WORK = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 22, seed=1)
"""A tenth of a second of drawing, and more on a busy machine."""


def started(*flags: str) -> Daemon:
    return Daemon("--doors", str(DOORS), *flags)


async def in_flight(daemon: Daemon) -> None:
    """Wait until the engine has something to do."""
    async with asyncio.timeout(WAIT_S):
        while (await asyncio.to_thread(daemon.metrics))["samplerd_in_flight_requests"] == 0:
            pass


async def until_answered(service: Any, request: pb.SampleRequest) -> pb.SampleResponse:
    """Ask until the engine is there again; until then, every call is told to try again."""
    async with asyncio.timeout(WAIT_S):
        while True:
            [reply] = await asyncio.gather(service.Sample(request), return_exceptions=True)
            if not isinstance(reply, grpc.aio.AioRpcError):
                return reply
            assert reply.code() is CODE.UNAVAILABLE


async def test_a_door_that_is_killed_loses_its_own_calls_alone_and_comes_back():
    with started() as daemon:
        daemon.forgiven.add("door ended")
        engine = engine_of(daemon)
        async with Load(daemon.address) as load:
            os.kill(door_processes(daemon)[0][0], signal.SIGKILL)
            ended = await asyncio.to_thread(daemon.wait_event, "door ended")
            assert ended["why"] == "SIGKILL"
            await load.more(100)
            back = await asyncio.to_thread(daemon.wait_event, "door serving")
            assert back["door"] == ended["door"]
            await load.more(100)
        assert load.codes <= ENDED
        assert engine_of(daemon) == engine
        async with crowd(daemon) as clients:
            await clients.all(lambda own: own.Sample(pb.SampleRequest(tensor=tensor([[1.0]]))))
        shown = await asyncio.to_thread(daemon.metrics)
        assert shown["samplerd_in_flight_requests"] == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_engine_that_is_killed_fails_what_was_in_flight_and_comes_back_with_the_uploads(transport):
    with started("--transport", transport) as daemon:
        daemon.forgiven.add("engine ended")
        async with crowd(daemon) as clients:
            await clients.stubs[0].CreateDistribution(
                pb.CreateDistributionRequest(name="words", tensor=tensor([[1.0, 2.0, 3.0]]))
            )
            asked = pb.SampleRequest(distribution="words", num_samples=50, seed=3)
            before = (await clients.stubs[0].Sample(asked)).samples
            calls = [own.Sample(WORK) for own in clients.stubs for _ in range(8)]
            await in_flight(daemon)
            os.kill(engine_of(daemon), signal.SIGKILL)
            errors = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WAIT_S)
            errors = [error for error in errors if isinstance(error, BaseException)]
            assert errors
            told = [details(status_of(error)) for error in errors]
            assert {error.code() for error in errors} == {CODE.UNAVAILABLE}
            assert {own["ErrorInfo"].reason for own in told} == {"ENGINE_GONE"}
            assert all("RetryInfo" in own for own in told)
            ended = await asyncio.to_thread(daemon.wait_event, "engine ended")
            assert ended["why"] == "SIGKILL"
            await asyncio.to_thread(daemon.wait_event, "engine serving")
            for own in clients.stubs:  # the doors have kept their connections
                assert (await until_answered(own, asked)).samples == before
        shown = await asyncio.to_thread(daemon.metrics)
        assert shown['samplerd_worker_restarts_total{worker="engine"}'] == 1
        assert shown["samplerd_distributions"] == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_drain_finishes_what_is_in_flight_and_leaves_nothing(transport):
    daemon = await asyncio.to_thread(started("--transport", transport, "--drain-grace", "60s").__enter__)
    folder = worker_folder(engine_of(daemon))
    watched = Watched(descendants(daemon.process.pid))
    work = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 19, seed=1)
    work.outputs.raw_samples = True
    async with crowd(daemon) as clients:
        calls = [own.Sample(work) for own in clients.stubs for _ in range(8)]
        await in_flight(daemon)
        daemon.process.send_signal(signal.SIGTERM)
        done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 2 * WAIT_S)
        replies = [own for own in done if not isinstance(own, BaseException)]
        # A call that had not begun is refused, so that its client goes elsewhere.
        assert {own.code() for own in done if isinstance(own, grpc.aio.AioRpcError)} <= {CODE.UNAVAILABLE}
        assert len({reply.raw_samples for reply in replies}) == 1
        assert await asyncio.to_thread(daemon.wait) == 0
        daemon.__exit__()
    stopped = [daemon.wait_event("door stopped") for _ in range(DOORS)]
    assert [event["finished_in_grace"] for event in stopped] == [True] * DOORS
    assert daemon.wait_event("engine stopped")["finished_in_grace"] is True
    assert daemon.wait_event("stopped")["finished_in_grace"] is True
    assert watched.wait(0) == []
    assert not folder.exists()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_supervisor_that_is_killed_leaves_nobody(transport):
    daemon = await asyncio.to_thread(started("--transport", transport).__enter__)
    folder = worker_folder(engine_of(daemon))
    watched = Watched(descendants(daemon.process.pid))
    daemon.process.kill()
    assert await asyncio.to_thread(watched.wait, WAIT_S) == []
    assert await asyncio.to_thread(daemon.wait) == -signal.SIGKILL
    assert not folder.exists()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_engine_that_hangs_makes_every_door_not_serving_until_it_answers_again(transport):
    """Long before the stall limit, after which it is killed: as `/readyz` does."""
    with started("--transport", transport, "--stall-limit", "600s") as daemon:
        async with connect(daemon.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watching = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watching.read()).status == SERVING
            engine = engine_of(daemon)
            os.kill(engine, signal.SIGSTOP)
            try:
                assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == NOT_SERVING
                assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
            finally:
                os.kill(engine, signal.SIGCONT)
            assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == SERVING
            reply = await stub(channel).Sample(pb.SampleRequest(tensor=tensor([[1.0]])), timeout=WAIT_S)
            assert list(reply.samples) == [0]
            watching.cancel()


async def test_an_engine_that_is_asked_to_end_is_replaced_and_doors_say_so_meanwhile():
    with started() as daemon:
        async with connect(daemon.address) as channel:
            service = stub(channel)
            await service.Sample(pb.SampleRequest(tensor=tensor([[1.0]])))
            os.kill(engine_of(daemon), signal.SIGTERM)
            await asyncio.to_thread(daemon.wait_event, "engine stopped")
            ended = await asyncio.to_thread(daemon.wait_event, "engine ended")
            assert (ended["level"], ended["why"]) == ("warning", "exit code 0")
            error = await failure(service.Sample(pb.SampleRequest(tensor=tensor([[1.0]]))))
            assert details(status_of(error))["ErrorInfo"].reason == "ENGINE_GONE"
            await asyncio.to_thread(daemon.wait_event, "engine serving")
            await until_answered(service, pb.SampleRequest(tensor=tensor([[1.0]])))
