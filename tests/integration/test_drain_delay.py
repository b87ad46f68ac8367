"""A server that waits the drain delay loses no call of a client that watches health, even with one attempt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from tests.support.balanced import BalancedLoad, ClientLoad
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, stub
from tests.support.worker_pool import children

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ASK = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))


def start(*flags: str) -> Daemon:
    return Daemon("--drain-delay", "1s", *flags).__enter__()


@TRANSPORTS
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_no_call_is_lost_with_one_attempt(transport, workers):
    async with contextlib.AsyncExitStack() as stack:
        flags = ("--transport", transport, "--workers", workers)
        leaving = await asyncio.to_thread(start, *flags)
        stack.callback(leaving.__exit__)
        staying = await asyncio.to_thread(start, "--transport", transport)
        stack.callback(staying.__exit__)
        load = await stack.enter_async_context(BalancedLoad([leaving.address, staying.address]))
        leaving.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(leaving.wait) == 0
        await load.more(100)
    assert not load.lost, load.lost
    assert leaving.wait_event("stopped")["finished_in_grace"] is True


@TRANSPORTS
async def test_health_is_told_first_and_requests_are_answered_meanwhile(transport):
    daemon = await asyncio.to_thread(Daemon("--drain-delay", "600s", "--transport", transport).__enter__)
    async with connect(daemon.address) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watching.read()
        daemon.process.send_signal(signal.SIGTERM)
        assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == NOT_SERVING
        assert list((await stub(channel).Sample(ASK)).samples) == [7]
        # A second signal ends the delay.
        await asyncio.sleep(0.5)  # what comes at once is the same signal, told to a process and to its group
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.wait) == 0
        assert time.monotonic() - began < WAIT_S
    daemon.__exit__()
    assert daemon.wait_event("draining")["delay"] == "600s"


async def test_a_worker_that_is_restarted_loses_no_call_of_the_default_client():
    """The refusals of a draining server say when to try again, which is when its connections are gone."""
    async with contextlib.AsyncExitStack() as stack:
        daemon = await asyncio.to_thread(Daemon("--workers", "2", "--drain-delay", "3s").__enter__)
        daemon.forgiven.add("worker ended")
        stack.callback(daemon.__exit__)
        load = ClientLoad(daemon.address)
        await stack.enter_async_context(load)
        for worker in children(daemon):
            os.kill(worker, signal.SIGTERM)
            await asyncio.to_thread(daemon.wait_event, "worker stopped")
            await asyncio.to_thread(daemon.wait_event, "worker serving", 2 * WAIT_S)
            await load.more(100)
    assert not load.lost, load.lost
