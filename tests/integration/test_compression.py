"""Compressed messages over both transports: taken, and bounded by the limit of messages in size and in memory."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from tests.integration.conftest import MAX_MESSAGE_BYTES
from tests.support.processes import descendants
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, failure, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
COMPRESSIONS = [grpc.Compression.Gzip, grpc.Compression.Deflate]
BOMB_BYTES = 200 << 20
"""Zeros that a bomb inflates to: some 200 KiB of it are sent."""


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_compressed_requests_draw_the_same(service, compression):
    asked = pb.SampleRequest(tensor=tensor(np.sin(np.arange(30_000, dtype=np.float32))[None]), seed=7, num_samples=50)
    plain = await service.Sample(asked)
    packed = await service.Sample(asked, compression=compression)
    assert list(packed.samples) == list(plain.samples)
    info = await service.GetServerInfo(pb.GetServerInfoRequest(), compression=compression)
    assert info.version


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_compressed_streams(service, compression):
    stream = service.SampleStream(compression=compression)
    for number in range(20):
        await stream.write(pb.SampleRequest(id=number, tensor=tensor(one_hot(1, 5000, number)), seed=1))
    await stream.done_writing()
    assert {reply.id: list(reply.samples) async for reply in stream} == {number: [number] for number in range(20)}


async def test_health_may_be_asked_compressed(address):
    async with connect(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="samplerd.v1.SamplerService")
        reply = await health.Check(asked, compression=grpc.Compression.Gzip)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_the_limit_is_of_the_inflated_message(service, compression):
    row = np.zeros((1, MAX_MESSAGE_BYTES // 4 - 20), np.float32)
    reply = await service.Sample(pb.SampleRequest(tensor=tensor(row), seed=1), compression=compression)
    assert len(reply.samples) == 1
    above = pb.SampleRequest(tensor=tensor(np.zeros((1, MAX_MESSAGE_BYTES // 4), np.float32)), seed=1)
    assert MAX_MESSAGE_BYTES < above.ByteSize() < MAX_MESSAGE_BYTES + 64
    error = await failure(service.Sample(above, compression=compression))
    assert error.code() is CODE.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_a_bomb_is_refused_in_bounded_memory(daemon, compression):
    """The peak may grow by what a few messages of the limit take, not by what the bombs would have inflated to."""
    processes = [daemon.process.pid, *descendants(daemon.process.pid)]
    bomb = bytes(BOMB_BYTES)
    async with connect(daemon.address) as channel:
        call = channel.unary_unary("/samplerd.v1.SamplerService/Sample")
        stream = channel.stream_stream("/samplerd.v1.SamplerService/SampleStream")(compression=compression)
        await stub(channel).GetServerInfo(pb.GetServerInfoRequest())
        before = peaks(processes, reset=True)
        for _ in range(3):
            error = await failure(call(bomb, compression=compression))
            assert error.code() is CODE.RESOURCE_EXHAUSTED
        await stream.write(bomb)
        assert await asyncio.wait_for(stream.code(), WAIT_S) is CODE.RESOURCE_EXHAUSTED
        grown = sum(peaks(processes).values()) - sum(before.values())
        assert grown < 6 * MAX_MESSAGE_BYTES < BOMB_BYTES / 8
        # The connection still serves.
        reply = await stub(channel).Sample(pb.SampleRequest(tensor=tensor(one_hot(1, 100, 42)), seed=1))
        assert list(reply.samples) == [42]


def peaks(processes: list[int], *, reset: bool = False) -> dict[int, int]:
    """The largest resident size of each process in bytes; `reset` makes it begin anew from what is resident now."""
    if reset:
        for process in processes:
            Path(f"/proc/{process}/clear_refs").write_text("5")
    texts = {process: Path(f"/proc/{process}/status").read_text() for process in processes}
    return {process: int(re.search(r"VmHWM:\s+(\d+)", text)[1]) << 10 for process, text in texts.items()}
