"""Rows in memory of a CUDA device, over real sockets, with the double of a card: the draws of the wire, to the bit."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.oip import grpc_service_pb2_grpc as oip_grpc
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.sampling.cuda.late_regions import make_handle
from tests.support.card_memory import CardMemory
from tests.support.daemon import Daemon
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, details, failure, status_of, stub
from tests.support.served_mix import without_times

pytestmark = pytest.mark.slow

CODE = grpc.StatusCode
ROWS = np.random.default_rng(11).normal(0, 3, (3, 300)).astype(np.float32)
FLAGS = ("--device", "interpret", "--device-memory", "8MiB", "--cuda-shared-memory")


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def daemon(request):
    with Daemon(*FLAGS, "--transport", request.param) as own:
        yield own


@pytest.fixture
async def channel(daemon):
    async with connect(daemon.address) as own:
        yield own


@pytest.fixture
def service(channel):
    return stub(channel)


@pytest.fixture
async def inference(channel):
    own = oip_grpc.GRPCInferenceServiceStub(channel)
    yield own
    await own.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(), timeout=WAIT_S)


@pytest.fixture
async def memory(inference):
    with CardMemory(ROWS.tobytes() + bytes(256)) as own:
        await inference.CudaSharedMemoryRegister(own.register(), timeout=WAIT_S)
        yield own
        await inference.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(name=own.name), timeout=WAIT_S)


def ask(**source) -> pb.SampleRequest:
    asked = pb.SampleRequest(id=1, seed=5, num_samples=3, **source)
    asked.params.top_p = 0.9
    asked.outputs.logprobs.append(pb.LOGPROB_KIND_SCALED)
    return asked


async def refused(call, code: grpc.StatusCode, *texts: str) -> None:
    error = await failure(call)
    assert error.code() is code, error.details()
    assert all(text in error.details() for text in texts), error.details()


async def test_draws_are_those_of_the_wire_and_nothing_crosses_the_bus(daemon, service, memory) -> None:
    want = without_times(await service.Sample(ask(tensor=tensor(ROWS)), timeout=WAIT_S))
    copied = daemon.metrics()['samplerd_device_copied_bytes_total{device="interpret"}']
    for _ in range(2):
        got = await service.Sample(ask(cuda_shared_memory=memory.rows(ROWS)), timeout=WAIT_S)
        assert without_times(got) == want
    metrics = daemon.metrics()
    assert metrics['samplerd_device_copied_bytes_total{device="interpret"}'] == copied
    assert metrics["samplerd_cuda_shared_memory_bytes_total"] >= 2 * ROWS.nbytes
    assert metrics["samplerd_cuda_shared_memory_regions"] == 1


async def test_memory_may_be_written_again_after_the_reply(service, memory) -> None:
    for seed in range(3):
        rows = np.random.default_rng(seed).normal(0, 3, (2, 200)).astype(np.float32)
        memory.write(12, rows.tobytes())
        got = await service.Sample(ask(cuda_shared_memory=memory.rows(rows, 12)), timeout=WAIT_S)
        want = await service.Sample(ask(tensor=tensor(rows)), timeout=WAIT_S)
        assert without_times(got) == without_times(want)


async def test_guidance_and_distributions(service, memory) -> None:
    asked = ask(tensor=tensor(ROWS[:1]))
    asked.params.guidance_scale = 1.5
    asked.guidance.tensor.CopyFrom(tensor(ROWS[1:2]))
    want = without_times(await service.Sample(asked, timeout=WAIT_S))
    asked.guidance.cuda_shared_memory.CopyFrom(memory.rows(ROWS[1:2], ROWS[:1].nbytes))
    assert without_times(await service.Sample(asked, timeout=WAIT_S)) == want
    upload = pb.CreateDistributionRequest(name="card", cuda_shared_memory=memory.rows(ROWS))
    await service.CreateDistribution(upload, timeout=WAIT_S)
    drawn = await service.Sample(ask(distribution="card"), timeout=WAIT_S)
    assert drawn.samples == (await service.Sample(ask(tensor=tensor(ROWS)), timeout=WAIT_S)).samples
    await service.DeleteDistribution(pb.DeleteDistributionRequest(name="card"), timeout=WAIT_S)


async def test_many_requests_at_once_share_a_region(service, memory) -> None:
    pitch = ROWS[:1].nbytes
    calls = [
        service.Sample(ask(cuda_shared_memory=memory.rows(ROWS[at % 3 :][:1], at % 3 * pitch)), timeout=WAIT_S)
        for at in range(24)
    ]
    wanted = [await service.Sample(ask(tensor=tensor(ROWS[at : at + 1])), timeout=WAIT_S) for at in range(3)]
    for at, reply in enumerate(await asyncio.gather(*calls)):
        assert reply.samples == wanted[at % 3].samples


def infer(memory: CardMemory) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="sampler")
    request.parameters["seed"].int64_param = 5
    rows = request.inputs.add(name="logits", datatype="FP32", shape=ROWS.shape)
    rows.parameters["shared_memory_region"].string_param = memory.name
    rows.parameters["shared_memory_byte_size"].int64_param = ROWS.nbytes
    request.outputs.add(name="samples")
    return request


async def test_the_open_inference_protocol_reads_and_writes_there(inference, service, memory) -> None:
    status = await inference.CudaSharedMemoryStatus(oip.CudaSharedMemoryStatusRequest(), timeout=WAIT_S)
    [(name, region)] = status.regions.items()
    assert (name, region.name, region.device_id, region.byte_size) == (memory.name, memory.name, 0, memory.size)
    want = (await service.Sample(pb.SampleRequest(seed=5, tensor=tensor(ROWS)), timeout=WAIT_S)).samples
    request = infer(memory)
    reply = await inference.ModelInfer(request, timeout=WAIT_S)
    assert np.frombuffer(reply.raw_output_contents[0], "<i4").tolist() == list(want)
    place = request.outputs[0].parameters
    place["shared_memory_region"].string_param = memory.name
    place["shared_memory_byte_size"].int64_param = 12
    place["shared_memory_offset"].int64_param = ROWS.nbytes
    reply = await inference.ModelInfer(request, timeout=WAIT_S)
    assert list(reply.raw_output_contents) == [b""]
    assert np.frombuffer(memory.read(ROWS.nbytes, 12), "<i4").tolist() == list(want)
    metadata = await inference.ServerMetadata(oip.ServerMetadataRequest(), timeout=WAIT_S)
    assert "cuda_shared_memory" in metadata.extensions
    request.inputs[0].parameters["shared_memory_offset"].int64_param = 260
    await refused(inference.ModelInfer(request, timeout=WAIT_S), CODE.INVALID_ARGUMENT, "not within the region's")


async def test_what_cannot_be_registered_hurts_nobody(inference, service, memory) -> None:
    register = inference.CudaSharedMemoryRegister
    for fields, text in (
        ({"raw_handle": b"h"}, "raw_handle: has 1 bytes"),
        ({"raw_handle": b"h" * 64}, "raw_handle: the region cannot be opened"),
        ({"raw_handle": make_handle("no-such-memory", 1)}, "raw_handle: the region cannot be opened"),
        ({"device_id": 1}, "device_id: is 1, but this server draws on device 0"),
        ({"byte_size": memory.size + 1}, "byte_size: "),
        ({"byte_size": 0}, "byte_size: "),
        ({"name": ""}, "name: "),
    ):
        request = memory.register(**{"name": "other", **fields})
        await refused(register(request, timeout=WAIT_S), CODE.INVALID_ARGUMENT, text)
    await refused(register(memory.register(), timeout=WAIT_S), CODE.ALREADY_EXISTS, memory.name)
    error = await failure(
        service.Sample(ask(cuda_shared_memory=memory.rows(ROWS, memory.size - ROWS.nbytes + 1)), timeout=WAIT_S)
    )
    assert error.code() is CODE.INVALID_ARGUMENT
    [violation] = details(status_of(error))["BadRequest"].field_violations
    assert violation.field == "cuda_shared_memory.byte_size"
    other = memory.rows(ROWS, region="other")
    await refused(service.Sample(ask(cuda_shared_memory=other), timeout=WAIT_S), CODE.NOT_FOUND, "'other'")
    await service.Sample(ask(cuda_shared_memory=memory.rows(ROWS)), timeout=WAIT_S)


async def test_it_is_told_and_unregistered(daemon, inference, service) -> None:
    info = await service.GetServerInfo(pb.GetServerInfoRequest(), timeout=WAIT_S)
    assert {"SampleRequest.cuda_shared_memory", "CreateDistributionRequest.cuda_shared_memory"} <= {*info.capabilities}
    with CardMemory(ROWS.tobytes()) as memory:
        await inference.CudaSharedMemoryRegister(memory.register(), timeout=WAIT_S)
        await inference.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(), timeout=WAIT_S)
    assert daemon.metrics()["samplerd_cuda_shared_memory_regions"] == 0
    asked = ask(cuda_shared_memory=memory.rows(ROWS))
    await refused(service.Sample(asked, timeout=WAIT_S), CODE.NOT_FOUND, memory.name)


async def test_memory_that_is_freed_too_early_costs_the_card_and_the_cpu_goes_on() -> None:
    with Daemon(*FLAGS) as daemon:
        lost = "the card is lost, and the CPU draws until the server is started again: an illegal address"
        daemon.forgiven.add(f"{lost}: the memory of the region was freed")
        async with connect(daemon.address) as channel:
            inference, service = oip_grpc.GRPCInferenceServiceStub(channel), stub(channel)
            want = without_times(await service.Sample(ask(tensor=tensor(ROWS)), timeout=WAIT_S))
            with CardMemory(ROWS.tobytes()) as memory:
                await inference.CudaSharedMemoryRegister(memory.register(), timeout=WAIT_S)
            asked = ask(cuda_shared_memory=memory.rows(ROWS))
            await refused(service.Sample(asked, timeout=WAIT_S), CODE.UNAVAILABLE, "card")
            await refused(service.Sample(asked, timeout=WAIT_S), CODE.UNAVAILABLE, "card")
            got = await service.Sample(ask(tensor=tensor(ROWS)), timeout=WAIT_S)
            assert without_times(got) == want
            await inference.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(), timeout=WAIT_S)
        assert daemon.metrics()['samplerd_device_lost{device="interpret"}'] == 1


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--device", "cpu", "--cuda-shared-memory"), "this server draws on cpu"),
        (("--device", "cpu", "--cuda-shared-memory", "--doors", "2"), "--doors"),
    ],
)
async def test_where_no_card_draws_it_says_so(flags, text) -> None:
    with Daemon(*flags) as daemon, CardMemory(ROWS.tobytes()) as memory:
        async with connect(daemon.address) as channel:
            inference, service = oip_grpc.GRPCInferenceServiceStub(channel), stub(channel)
            await inference.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(), timeout=WAIT_S)
            await refused(
                inference.CudaSharedMemoryRegister(memory.register(), timeout=WAIT_S), CODE.UNIMPLEMENTED, text
            )
            asked = ask(cuda_shared_memory=memory.rows(ROWS))
            await refused(service.Sample(asked, timeout=WAIT_S), CODE.UNIMPLEMENTED, "cuda_shared_memory", text)
            upload = pb.CreateDistributionRequest(name="card", cuda_shared_memory=memory.rows(ROWS))
            await refused(service.CreateDistribution(upload, timeout=WAIT_S), CODE.UNIMPLEMENTED, text)
            info = await service.GetServerInfo(pb.GetServerInfoRequest(), timeout=WAIT_S)
            assert not [name for name in info.capabilities if "cuda_shared_memory" in name]
