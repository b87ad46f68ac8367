"""A device or an event loop that hangs: callers are told, and the process ends so that it is started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

import grpc
import pytest
from google.rpc import error_details_pb2

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.faults import FULL_DEVICE, HUNG_DEVICE, HUNG_LOOP, RAISING_DEVICE, Faults
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, status_of, stub
from tests.support.worker_pool import children

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])
ASK = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))
STALLED = 3


def start(faults: Faults, *flags: str) -> Daemon:
    return Daemon("--stall-limit", "1s", "--event-loop-draw-limit", "0", *flags, env=faults.environment).__enter__()


async def hung(address: str, faults: Faults, code: str) -> None:
    """Bring a fault about, and return once it has begun: a call has passed its deadline."""
    async with connect(address) as channel:
        assert list((await stub(channel).Sample(ASK)).samples) == [7]
        faults.inject(code)
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                await stub(channel).Sample(ASK, timeout=0.3)


async def refusal(service) -> grpc.aio.AioRpcError:
    """Ask until a call fails."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await service.Sample(ASK)
            except grpc.aio.AioRpcError as error:
                return error


@TRANSPORTS
async def test_a_device_that_hangs_fails_its_requests_and_ends_the_server(transport, tmp_path):
    faults = Faults(tmp_path)
    daemon = await asyncio.to_thread(start, faults, "--transport", transport)
    async with connect(daemon.address) as channel:
        assert list((await stub(channel).Sample(ASK)).samples) == [7]
        faults.inject(HUNG_DEVICE)
        refused = await refusal(stub(channel))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        [info] = [own for own in status_of(refused).details if own.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
        assert error_details_pb2.ErrorInfo.FromString(info.value).reason == "DEVICE_STALLED"
    assert await asyncio.to_thread(daemon.wait) == STALLED
    [stalled] = [own for own in map(json.loads, filter(_is_json, daemon.log)) if own["message"] == "stalled"]
    assert stalled["why"] == "the device has not finished a batch for 1 s (--stall-limit)"


def _is_json(line: str) -> bool:
    return line.startswith("{")


@TRANSPORTS
async def test_an_event_loop_that_hangs_ends_the_server(transport, tmp_path):
    faults = Faults(tmp_path)
    daemon = await asyncio.to_thread(start, faults, "--transport", transport)
    faults.inject(HUNG_LOOP)
    assert await asyncio.to_thread(daemon.wait) == STALLED
    assert any("the event loop has not turned for 1 s" in line for line in daemon.log)


@pytest.mark.parametrize("code", [RAISING_DEVICE, FULL_DEVICE], ids=["raises", "out of memory"])
@TRANSPORTS
async def test_a_device_that_fails_fails_its_batch_and_no_more(transport, code, tmp_path):
    faults = Faults(tmp_path)
    daemon = await asyncio.to_thread(start, faults, "--transport", transport)
    daemon.forgiven.add("the sampler raised")
    async with connect(daemon.address) as channel:
        faults.inject(code)
        refused = await refusal(stub(channel))
        assert refused.code() is grpc.StatusCode.INTERNAL
        assert (await asyncio.to_thread(daemon.metrics))["samplerd_queue_rows"] == 0
    await asyncio.to_thread(daemon.__exit__)


@TRANSPORTS
async def test_a_worker_that_hangs_is_replaced(transport, tmp_path):
    faults = Faults(tmp_path)
    daemon = await asyncio.to_thread(start, faults, "--transport", transport, "--workers", "2")
    daemon.forgiven |= {"worker ended", "stalled"}
    await hung(daemon.address, faults, HUNG_DEVICE)
    ended = await asyncio.to_thread(daemon.wait_event, "worker ended")
    assert "the device has not finished a batch" in ended["why"] or "envoy ended by itself with 3" in ended["why"]
    faults.mend()
    await asyncio.to_thread(daemon.wait_event, "worker serving", 2 * WAIT_S)
    await asyncio.to_thread(daemon.__exit__)


@TRANSPORTS
async def test_a_worker_that_cannot_even_watch_itself_is_replaced(transport, tmp_path):
    """A stopped process stands for one that holds the interpreter's lock for ever."""
    flags = ("--transport", transport, "--workers", "2")
    daemon = await asyncio.to_thread(start, Faults(tmp_path), *flags)
    daemon.forgiven.add("worker ended")
    os.kill(children(daemon)[0], signal.SIGSTOP)
    ended = await asyncio.to_thread(daemon.wait_event, "worker ended")
    assert ended["why"] == "it has not answered for 6 s (--stall-limit)"
    await asyncio.to_thread(daemon.wait_event, "worker serving", 2 * WAIT_S)
    async with connect(daemon.address) as channel:
        assert list((await stub(channel).Sample(ASK)).samples) == [7]
    await asyncio.to_thread(daemon.__exit__)
