"""Servers that stop while callers send by a schedule, without waiting for answers: no call ends as CANCELLED."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from tests.support.certificates import Authority, tls_flags
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect
from tests.support.valve import Valve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLERS = 8
EVERY_S = 0.002
CODE = grpc.StatusCode
ASKED = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


async def call_on(channel: grpc.aio.Channel, codes: Counter[CODE], has_stopped: asyncio.Event) -> None:
    """Send a call every 2 ms until the server has stopped, and count how they end."""
    service = sampler_pb2_grpc.SamplerServiceStub(channel)

    async def call() -> None:
        try:
            await service.Sample(ASKED, timeout=WAIT_S)
            codes[CODE.OK] += 1
        except grpc.aio.AioRpcError as error:
            codes[error.code()] += 1

    async with channel, asyncio.TaskGroup() as calls:
        while not has_stopped.is_set():
            calls.create_task(call())
            await asyncio.sleep(EVERY_S)


async def stop_under_load(
    daemon: Daemon, connect: Callable[[], grpc.aio.Channel], all_left: Callable[[], None] | None = None
) -> Counter[CODE]:
    """Tell a server to end under load; returns how all calls ended. `all_left` is called once all callers have left."""
    codes, has_stopped = Counter[CODE](), asyncio.Event()
    channels = [connect() for _ in range(CALLERS)]
    async with asyncio.timeout(4 * WAIT_S), asyncio.TaskGroup() as callers:
        for channel in channels:
            callers.create_task(call_on(channel, codes, has_stopped))
        while codes[CODE.OK] < 100 * CALLERS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        daemon.process.send_signal(signal.SIGTERM)
        if all_left is not None:
            while grpc.ChannelConnectivity.READY in {channel.get_state() for channel in channels}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            all_left()
        while daemon.process.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        has_stopped.set()
    return codes


@pytest.mark.parametrize("flags", [(), ("--workers", "2"), ("--doors", "2")], ids=["one", "workers", "doors"])
@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_callers_that_do_not_wait_are_never_cancelled(transport: str, flags: tuple[str, ...]) -> None:
    with Daemon("--transport", transport, *flags) as daemon:
        codes = await stop_under_load(daemon, lambda: grpc.aio.insecure_channel(daemon.address, options=OPTIONS))
    assert set(codes) == {CODE.OK, CODE.UNAVAILABLE}


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_nor_are_those_of_a_unix_socket(tmp_path: Path, transport: str) -> None:
    with Daemon("--transport", transport, unix=tmp_path / "samplerd.sock") as daemon:
        codes = await stop_under_load(daemon, lambda: grpc.aio.insecure_channel(daemon.unix_address, options=OPTIONS))
    assert set(codes) == {CODE.OK, CODE.UNAVAILABLE}


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_nor_those_that_use_tls(authority: Authority, transport: str) -> None:
    with Daemon("--transport", transport, *tls_flags(authority.sign("server"))) as daemon:
        trusted = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        codes = await stop_under_load(daemon, lambda: grpc.aio.secure_channel(daemon.address, trusted, OPTIONS))
    assert set(codes) == {CODE.OK, CODE.UNAVAILABLE}


@pytest.mark.parametrize(
    "flags",
    [("grpcio",), ("grpcio", "--workers", "2"), ("grpcio", "--doors", "2"), ("envoy",)],
    ids=["grpcio", "workers", "doors", "envoy"],
)
async def test_nor_are_they_while_another_caller_is_still_answered(flags: tuple[str, ...]) -> None:
    """For longer than the two seconds in which clients are not told to go; its reply comes whole."""
    with Daemon("--drain-grace", "10m", "--transport", *flags) as daemon:
        async with Valve(daemon.address) as valve, connect(valve.address) as channel:
            service = sampler_pb2_grpc.SamplerServiceStub(channel)
            await service.Sample(ASKED)
            valve.close()
            large = pb.SampleRequest(id=2, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 20, seed=1)
            large.outputs.raw_samples = True
            answered = service.Sample(large)
            async with asyncio.timeout(WAIT_S):
                while (await asyncio.to_thread(daemon.metrics)).get("samplerd_samples_total", 0) < 1 << 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            codes = await stop_under_load(
                daemon, lambda: grpc.aio.insecure_channel(daemon.address, options=OPTIONS), valve.open
            )
            assert len((await answered).raw_samples) == 4 << 20
    assert set(codes) == {CODE.OK, CODE.UNAVAILABLE}
