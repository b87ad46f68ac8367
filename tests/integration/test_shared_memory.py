"""Rows in shared memory, over real sockets: the draws of the wire, and a server that no region can hurt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import NotFoundError, RegionFullError, SamplerClient, SharedMemoryRegion
from tests.integration.conftest import MAX_MESSAGE_BYTES
from tests.support.engine import HeldSampler
from tests.support.regions import PREFIX, Region, open_descriptors
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served, details, failure, status_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
ONE = one_hot(1, 100, 42)
NOBODY = 65534


def ask(memory: pb.SharedMemory, **fields) -> pb.SampleRequest:
    return pb.SampleRequest(shared_memory=memory, **fields)


async def draw(service, request: pb.SampleRequest) -> list[int]:
    reply = await asyncio.wait_for(service.Sample(request), WAIT_S)
    assert not reply.row_errors
    return list(reply.samples)


async def serves(service) -> None:
    """The server answers as ever, over both ways."""
    with Region(ONE.tobytes()) as region:
        assert await draw(service, ask(region.rows(ONE))) == [42]
    assert await draw(service, pb.SampleRequest(tensor=tensor(ONE))) == [42]


async def refused(service, memory: pb.SharedMemory, code: grpc.StatusCode, path: str) -> None:
    error = await failure(service.Sample(ask(memory)))
    assert error.code() is code, error.details()
    assert (error.details() or "").startswith(f"{path}: ")
    if code is CODE.INVALID_ARGUMENT:
        assert [v.field for v in details(status_of(error))["BadRequest"].field_violations] == [path]


# What is drawn.


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<u2", "<f8"])
async def test_draws_are_those_of_the_wire(service, dtype):
    numbers = np.random.default_rng(1).normal(0, 3, (5, 3000)).astype("<f4")
    array = (numbers.view("<u4") >> 16).astype("<u2") if dtype == "<u2" else numbers.astype(dtype)
    common = {
        "seed": 7,
        "num_samples": 3,
        "row_params": [pb.SamplingParams(temperature=0.5 * row, top_p=0.9) for row in range(5)],
        "outputs": pb.Outputs(logprobs=[1, 2, 3], top_n=2, rank=True),
    }
    with Region(b"odd" + array.tobytes()) as region:
        memory = region.rows(array, 3)
        shared = await service.Sample(ask(memory, **common))
    wire = pb.Tensor(dtype=memory.dtype, rows=5, vocab_size=3000, data=array.tobytes())
    sent = await service.Sample(pb.SampleRequest(tensor=wire, **common))
    for reply in (shared, sent):
        reply.ClearField("timing")
    assert shared == sent
    assert len(shared.samples) == 15


async def test_guidance_rows_are_read_from_shared_memory_too(service):
    numbers, second = np.random.default_rng(2).normal(0, 3, (2, 4, 500)).astype("<f4")
    common = {"seed": 7, "num_samples": 3, "params": pb.SamplingParams(guidance_scale=1.8)}
    sent = await service.Sample(
        pb.SampleRequest(tensor=tensor(numbers), guidance=pb.Guidance(tensor=tensor(second)), **common)
    )
    with Region(numbers.tobytes() + second.tobytes()) as region:
        rows, guidance = region.rows(numbers), pb.Guidance(shared_memory=region.rows(second, numbers.nbytes))
        both = await service.Sample(ask(rows, guidance=guidance, **common))
        one = await service.Sample(pb.SampleRequest(tensor=tensor(numbers), guidance=guidance, **common))
    assert list(sent.samples) == list(both.samples) == list(one.samples)
    assert len(sent.samples) == 12


async def test_both_rows_in_shared_memory_are_bounded_together(service):
    numbers = np.zeros((1, MAX_MESSAGE_BYTES // 8 + 1), "<f4")  # a little more than half of the limit
    with Region(numbers.tobytes()) as region:
        memory = region.rows(numbers)
        params = pb.SamplingParams(guidance_scale=2.0)
        request = ask(memory, guidance=pb.Guidance(shared_memory=memory), params=params)
        error = await failure(service.Sample(request))
        assert error.code() is CODE.INVALID_ARGUMENT
        assert (error.details() or "").startswith("guidance.shared_memory.byte_size: ")
        missing = pb.SharedMemory(key=PREFIX + "gone", byte_size=8, vocab_size=2)
        request = pb.SampleRequest(tensor=tensor([[1, 2]]), guidance=pb.Guidance(shared_memory=missing), params=params)
        error = await failure(service.Sample(request))
        assert error.code() is CODE.NOT_FOUND
        assert (error.details() or "").startswith("guidance.shared_memory.key: ")


async def test_a_bad_row_fails_alone(service):
    array = one_hot(3, 100, [1, 2, 3])
    array[1, 5] = np.nan
    with Region(array.tobytes()) as region:
        reply = await service.Sample(ask(region.rows(array)))
    assert list(reply.samples) == [1, -1, 3]
    assert [(error.row, error.reason) for error in reply.row_errors] == [(1, pb.ROW_ERROR_REASON_NAN)]


async def test_a_stream_takes_them_and_outlives_a_bad_one(service):
    stream = service.SampleStream()
    array = one_hot(50, 100, np.arange(50))
    with Region(array.tobytes()) as region:
        for row in range(50):
            await stream.write(ask(region.rows(ONE, 400 * row), id=row))
            await stream.write(ask(region.rows(ONE, 400 * 50 + row + 1), id=1000 + row))
        replies = [await asyncio.wait_for(stream.read(), WAIT_S) for _ in range(100)]
    await stream.done_writing()
    assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
    good = {reply.id: list(reply.samples) for reply in replies if not reply.HasField("error")}
    bad = {reply.id: reply.error for reply in replies if reply.HasField("error")}
    assert good == {row: [row] for row in range(50)}
    assert bad.keys() == {1000 + row for row in range(50)}
    assert all(error.message.startswith("shared_memory.offset: ") for error in bad.values())


async def test_more_than_a_message_may_hold_is_refused(service):
    rows = MAX_MESSAGE_BYTES // 4096
    array = np.zeros((rows, 1024), "<f4")
    with Region(array.tobytes() + bytes(4096)) as region:
        assert len(await draw(service, ask(region.rows(array)))) == rows
        more = np.zeros((rows + 1, 1024), "<f4")
        await refused(service, region.rows(more), CODE.INVALID_ARGUMENT, "shared_memory.byte_size")


async def test_the_server_says_that_it_can(service, daemon):
    info = await service.GetServerInfo(pb.GetServerInfoRequest())
    assert {"SampleRequest.shared_memory", "CreateDistributionRequest.shared_memory"} <= set(info.capabilities)
    before = daemon.metrics()
    await serves(service)
    grown = {name: value - before[name] for name, value in daemon.metrics().items() if "shared_memory" in name}
    assert grown["samplerd_shared_memory_bytes_total"] == 400
    assert grown["samplerd_shared_memory_read_seconds_count"] == 1


async def test_a_distribution_is_uploaded_from_it_and_then_the_servers(address):
    logits = np.random.default_rng(3).normal(0, 3, (3, 40_000)).astype(np.float32)
    memory = SharedMemoryRegion(PREFIX, slots=1, slot_bytes=logits.nbytes)
    async with SamplerClient(address, timeout_s=WAIT_S) as client:
        with memory:
            slot = memory.put(logits)
            created = await client.create_distribution(shared_memory=slot)
            slot.array[:] = np.nan
        try:
            assert (created.rows, created.vocab_size) == (3, 40_000)
            named = await client.sample(distribution=created.name, seed=5, num_samples=7)
            sent = await client.sample(logits, seed=5, num_samples=7)
            assert named.samples.tolist() == sent.samples.tolist()
        finally:
            await client.delete_distribution(created.name)


async def test_a_distribution_that_cannot_be_uploaded_leaves_nothing(service, daemon):
    before = daemon.metrics()["samplerd_distributions"]
    with Region(np.full((1, 100), np.nan, "<f4").tobytes()) as region:
        for memory, code, path in (
            (region.rows(ONE), CODE.INVALID_ARGUMENT, "shared_memory"),
            (region.rows(ONE, 1), CODE.INVALID_ARGUMENT, "shared_memory.byte_size"),
            (region.rows(ONE, key="other"), CODE.PERMISSION_DENIED, "shared_memory.key"),
            (region.rows(ONE, key=PREFIX + "none"), CODE.NOT_FOUND, "shared_memory.key"),
        ):
            call = service.CreateDistribution(pb.CreateDistributionRequest(name="bad", shared_memory=memory))
            error = await failure(call)
            assert (error.code(), (error.details() or "").partition(": ")[0]) == (code, path)
    assert daemon.metrics()["samplerd_distributions"] == before


# What is not there.


async def test_a_region_that_changes_under_its_name(service):
    first, second = one_hot(1, 100, 1), one_hot(1, 100, 2)
    with Region(first.tobytes()) as region:
        memory = region.rows(first)
        assert await draw(service, ask(memory)) == [1]
        os.truncate(region.path, 399)
        await refused(service, memory, CODE.INVALID_ARGUMENT, "shared_memory.byte_size")
        os.truncate(region.path, 0)
        await refused(service, memory, CODE.INVALID_ARGUMENT, "shared_memory.byte_size")
        region.path.write_bytes(first.tobytes() + bytes(4096))  # grown
        assert await draw(service, ask(memory)) == [1]
        region.path.unlink()
        await refused(service, memory, CODE.NOT_FOUND, "shared_memory.key")
        region.path.write_bytes(second.tobytes())
        assert await draw(service, ask(memory)) == [2]
        region.path.unlink()
        region.path.symlink_to("/etc/passwd")
        await refused(service, memory, CODE.INVALID_ARGUMENT, "shared_memory.key")
        region.path.unlink()
        region.path.mkdir()
        await refused(service, memory, CODE.INVALID_ARGUMENT, "shared_memory.key")
        region.path.rmdir()
        os.mkfifo(region.path)
        await refused(service, memory, CODE.INVALID_ARGUMENT, "shared_memory.key")
    await serves(service)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"offset": 2**64 - 1}, CODE.INVALID_ARGUMENT, "shared_memory.offset"),
        ({"offset": 2**64 - 400}, CODE.INVALID_ARGUMENT, "shared_memory.offset"),
        ({"offset": 2**63}, CODE.INVALID_ARGUMENT, "shared_memory.offset"),
        ({"byte_size": 2**64 - 1}, CODE.INVALID_ARGUMENT, "shared_memory.byte_size"),
        ({"rows": 2**32 - 1, "vocab_size": 2**32 - 1}, CODE.INVALID_ARGUMENT, "shared_memory.vocab_size"),
        ({"key": "/etc/passwd"}, CODE.INVALID_ARGUMENT, "shared_memory.key"),
        ({"key": PREFIX + "/../../etc/passwd"}, CODE.INVALID_ARGUMENT, "shared_memory.key"),
        ({"key": PREFIX + "\0"}, CODE.INVALID_ARGUMENT, "shared_memory.key"),
        ({"key": "psm_of_somebody"}, CODE.PERMISSION_DENIED, "shared_memory.key"),
        ({"key": PREFIX + "nobody-made-it"}, CODE.NOT_FOUND, "shared_memory.key"),
    ],
)
async def test_what_cannot_be_read_names_its_field(service, fields, code, path):
    with Region(ONE.tobytes()) as region:
        await refused(service, region.rows(ONE, **fields), code, path)


async def test_a_region_that_the_server_may_not_read():
    async with Served(transport={"shared_memory_prefix": PREFIX}) as served:
        served.sampler.open()
        with Region(ONE.tobytes()) as region:
            assert await draw(served.stub, ask(region.rows(ONE))) == [42]
            region.path.chmod(0)
            user = os.geteuid()
            if user == 0:  # root reads everything
                os.seteuid(NOBODY)
            try:
                await refused(served.stub, region.rows(ONE), CODE.PERMISSION_DENIED, "shared_memory.key")
            finally:
                os.seteuid(user)


async def test_without_a_prefix_the_field_is_off():
    async with Served() as served:
        with Region(ONE.tobytes()) as region:
            error = await failure(served.stub.Sample(ask(region.rows(ONE))))
        assert error.code() is CODE.UNIMPLEMENTED
        assert "--shared-memory-prefix" in (error.details() or "")
        info = await served.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert "SampleRequest.shared_memory" not in info.capabilities


# What it must not do to others.


async def test_a_full_queue_refuses_before_it_copies():
    held = HeldSampler()
    async with Served(held, transport={"shared_memory_prefix": PREFIX}, admission={"queue_bytes": 1024}) as served:
        with Region(ONE.tobytes()) as region:
            calls = [served.stub.Sample(ask(region.rows(ONE)))]
            await served.entered()  # one computes, one is prefetched, and two fill the queue
            for in_flight in (2, 3, 4):
                calls.append(served.stub.Sample(ask(region.rows(ONE))))
                await served.until(lambda count=in_flight: served.app.batcher.in_flight == count)
            assert len(served.app.queue) == 2
            before = served.metrics.shared_memory_bytes.value()
            error = await failure(served.stub.Sample(ask(region.rows(ONE))))
            assert error.code() is CODE.RESOURCE_EXHAUSTED
            assert served.metrics.shared_memory_bytes.value() == before == 4 * 400
            served.sampler.open()
            assert [list((await call).samples) for call in calls] == [[42]] * 4
        assert served.app.queue.bytes == 0


async def test_a_failed_copy_leaves_nothing_in_the_queue():
    async with Served(transport={"shared_memory_prefix": PREFIX}) as served:
        with Region(bytes(399)) as region:
            await refused(served.stub, region.rows(ONE), CODE.INVALID_ARGUMENT, "shared_memory.byte_size")
        queue = served.app.queue
        assert (len(queue), queue.rows, queue.bytes, queue.work) == (0, 0, 0, 0)
        assert served.app.batcher.in_flight == 0


CUTTER = """
import os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR)
row = os.pread(descriptor, 1 << 20, 0)
print("cutting", flush=True)
while True:
    for pause in range(8):  # whole for 0 to 7 ms, so that cuts fall before, within and after copies at any speed
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, len(row) // 2)
        os.pwrite(descriptor, row, 0)
        time.sleep(pause / 1000)
"""


@contextlib.contextmanager
def cutting(region: Region):
    """Another process cuts the region and fills it again, without end."""
    with subprocess.Popen([sys.executable, "-c", CUTTER, region.path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "cutting\n"
            yield
        finally:
            process.kill()


async def test_a_region_that_is_cut_all_the_time(service, daemon):
    array = one_hot(8, 1 << 15, 42)
    outcomes = {"drawn": 0, "refused": 0}

    async def one() -> None:
        call = service.Sample(ask(region.rows(array)))
        code = await asyncio.wait_for(call.code(), WAIT_S)
        outcomes[{CODE.OK: "drawn", CODE.INVALID_ARGUMENT: "refused"}[code]] += 1
        if code is CODE.OK:
            assert len((await call).samples) == 8

    with Region(array.tobytes()) as region, cutting(region):
        give_up = time.monotonic() + WAIT_S
        while sum(outcomes.values()) < 400 or not all(outcomes.values()):
            await asyncio.gather(*(one() for _ in range(20)))
            assert time.monotonic() < give_up, outcomes
    assert daemon.process.poll() is None
    await serves(service)


async def test_many_clients_at_once_get_their_own_rows(service, daemon):
    async def client(number: int) -> None:
        array = one_hot(4, 500, [number, number + 1, number + 2, number + 3])
        with Region(array.tobytes()) as region:
            for _ in range(5):
                assert await draw(service, ask(region.rows(array))) == [number, number + 1, number + 2, number + 3]

    await asyncio.gather(*(client(number) for number in range(100)))
    assert open_descriptors(daemon.process.pid) == []


# The Python client.


async def test_the_clients_draws_are_those_of_the_wire(address):
    logits = np.random.default_rng(2).normal(0, 3, (3, 2000))
    memory = SharedMemoryRegion(PREFIX, slots=2, slot_bytes=8 * 6000)
    with memory:
        async with SamplerClient(address, timeout_s=WAIT_S) as client, client.stream() as stream:
            for dtype in ("f32", "f16", "bf16", "f64"):
                options = {"temperature": 0.7, "top_k": 50, "num_samples": 4, "seed": 11, "logprobs": ("raw",)}
                sent = await client.sample(logits, dtype=dtype, **options)
                for sample in (client.sample, stream.sample):
                    shared = await sample(shared_memory=memory.put(logits, dtype), **options)
                    assert shared.samples.tolist() == sent.samples.tolist()
                    assert shared.logprobs["raw"].tolist() == sent.logprobs["raw"].tolist()
            written = memory.reserve(1, 4)
            written.array[:] = [-9e9, 0, -9e9, -9e9]
            assert (await client.sample(shared_memory=written)).samples.tolist() == [[1]]
            written.release()
        assert memory.free_slots == 2
    async with SamplerClient(address, timeout_s=WAIT_S) as client:
        with pytest.raises(NotFoundError, match=r"shared_memory\.key"):
            await client.sample(shared_memory=written)


async def test_many_calls_share_a_regions_slots(address):
    memory = SharedMemoryRegion(PREFIX, slots=16, slot_bytes=4 * 500)
    places = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with places:
            result = await client.sample(shared_memory=memory.put(one_hot(1, 500, number)))
            assert result.samples.tolist() == [[number]]

    with memory:
        async with SamplerClient(address, timeout_s=WAIT_S) as client:
            await asyncio.gather(*(one(number) for number in range(400)))
        assert memory.free_slots == 16


async def test_a_slot_is_held_until_the_reply_has_come():
    async with Served(transport={"shared_memory_prefix": PREFIX}) as served:
        memory = SharedMemoryRegion(PREFIX, slots=1, slot_bytes=400)
        with memory:
            async with SamplerClient(served.address, timeout_s=WAIT_S) as client:
                call = asyncio.create_task(client.sample(shared_memory=memory.put(ONE)))
                await served.entered()
                with pytest.raises(RegionFullError):
                    memory.put(ONE)
                served.sampler.open()
                assert (await call).samples.tolist() == [[42]]
                del call
                assert memory.free_slots == 1
