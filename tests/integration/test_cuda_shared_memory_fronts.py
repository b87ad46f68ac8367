"""Registered memory of a CUDA device over each protocol and with several processes: it works, or it says why not."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

import numpy as np
import pytest

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.oip import grpc_service_pb2_grpc as oip_grpc
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import NotImplementedFieldError, SamplerClient
from tests.support.card_memory import CardMemory
from tests.support.cuda_tensor import card
from tests.support.daemon import Daemon
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, failure, stub
from tests.support.tools import need_http

__all__ = ["card"]

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(12).normal(0, 3, (3, 300)).astype(np.float32)
FLAGS = ("--device", "interpret", "--device-memory", "8MiB", "--cuda-shared-memory")
FOLDER = "/v2/cudasharedmemory"
INFERENCE = "/inference.GRPCInferenceService/"
SAMPLE = "/samplerd.v1.SamplerService/Sample"
CONNECT = {"content-type": "application/json", "connect-protocol-version": "1"}


def flags_for(transport: str) -> tuple[str, ...]:
    if transport == "grpcio":
        need_http()
        return (*FLAGS, "--transport", transport, "--http-listen", "127.0.0.1:0")
    return (*FLAGS, "--transport", transport)


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def daemon(request):
    with Daemon(*flags_for(request.param)) as own:
        yield own


@pytest.fixture
def memory():
    with CardMemory(ROWS.tobytes() + bytes(256)) as own:
        yield own


def ask(daemon: Daemon, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Send JSON over HTTP/1.1, by GET if there is none; returns the status and what the reply holds."""
    connection = http.client.HTTPConnection(daemon.http_address, timeout=WAIT_S)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, data, headers)
        reply = connection.getresponse()
        content = reply.read()
        return reply.status, json.loads(content) if content else None
    finally:
        connection.close()


def connect_rpc(daemon: Daemon, path: str, body: Any) -> tuple[int, Any]:
    return ask(daemon, path, body, **CONNECT)


def registering(memory: CardMemory, key: str = "raw_handle") -> dict[str, Any]:
    handle = base64.b64encode(memory.handle).decode()
    size = {"raw_handle": "byte_size", "rawHandle": "byteSize"}[key]
    return {key: {"b64": handle} if key == "raw_handle" else handle, size: memory.size}


def inference(memory: CardMemory) -> dict[str, Any]:
    place = {"shared_memory_region": memory.name, "shared_memory_byte_size": ROWS.nbytes}
    answer = {**place, "shared_memory_offset": ROWS.nbytes, "shared_memory_byte_size": 12}
    return {
        "parameters": {"seed": 5},
        "inputs": [{"name": "logits", "datatype": "FP32", "shape": ROWS.shape, "parameters": place}],
        "outputs": [{"name": "samples", "parameters": answer}],
    }


async def drawn(daemon: Daemon, **fields: Any) -> list[int]:
    async with connect(daemon.address) as channel:
        return list((await stub(channel).Sample(pb.SampleRequest(seed=5, **fields), timeout=WAIT_S)).samples)


async def test_over_http_a_region_is_registered_read_written_and_unregistered(daemon, memory) -> None:
    want = await drawn(daemon, tensor=tensor(ROWS))
    region = f"{FOLDER}/region/{memory.name}"
    assert ask(daemon, f"{region}/status")[0] == 404
    assert ask(daemon, f"{region}/register", registering(memory)) == (200, {})
    told = {"name": memory.name, "device_id": 0, "byte_size": memory.size}
    assert ask(daemon, f"{region}/status") == (200, [told])
    assert ask(daemon, f"{FOLDER}/status") == (200, [told])
    status, reply = ask(daemon, "/v2/models/sampler/infer", inference(memory))
    assert status == 200, reply
    assert np.frombuffer(memory.read(ROWS.nbytes, 12), "<i4").tolist() == want
    # The names are the server's: calls of gRPC, over another connection, mean the same region.
    assert await drawn(daemon, cuda_shared_memory=memory.rows(ROWS)) == want
    assert daemon.metrics()["samplerd_cuda_shared_memory_open_bytes"] == memory.size
    assert ask(daemon, f"{region}/unregister", {}) == (200, {})
    status, reply = ask(daemon, "/v2/models/sampler/infer", inference(memory))
    assert (status, memory.name in reply["error"]) == (404, True)
    assert daemon.metrics()["samplerd_cuda_shared_memory_open_bytes"] == 0


def test_over_http_what_cannot_be_registered_names_its_field(daemon, memory) -> None:
    region = f"{FOLDER}/region/{memory.name}/register"
    for fields, text in (
        ({"raw_handle": "no object"}, "raw_handle"),
        ({"raw_handle": {"b64": "???"}}, "raw_handle"),
        ({"raw_handle": {"b64": "aGVsbG8="}}, "raw_handle: has 5 bytes"),
        ({"device_id": 1}, "device_id"),
        ({"device_id": "first"}, "device_id"),
        ({"byte_size": memory.size + 1}, "byte_size"),
    ):
        status, reply = ask(daemon, region, {**registering(memory), **fields})
        assert (status, text in reply["error"]) == (400, True), reply
    assert ask(daemon, region, registering(memory)) == (200, {})
    status, reply = ask(daemon, region, registering(memory))
    assert (status, memory.name in reply["error"]) == (409, True), reply
    assert ask(daemon, f"{FOLDER}/unregister", {}) == (200, {})
    assert ask(daemon, f"{FOLDER}/status") == (200, [])


async def test_over_connect_too(daemon, memory) -> None:
    want = await drawn(daemon, tensor=tensor(ROWS))
    asked = {"name": memory.name, **registering(memory, "rawHandle")}
    assert connect_rpc(daemon, f"{INFERENCE}CudaSharedMemoryRegister", asked) == (200, {})
    rows = {"region": memory.name, "byteSize": ROWS.nbytes, "rows": 3, "vocabSize": 300}
    status, reply = connect_rpc(daemon, SAMPLE, {"seed": 5, "cudaSharedMemory": rows})
    assert (status, reply.get("samples")) == (200, want), reply
    status, reply = connect_rpc(daemon, f"{INFERENCE}CudaSharedMemoryStatus", {})
    assert [*reply["regions"]] == [memory.name]
    assert connect_rpc(daemon, f"{INFERENCE}CudaSharedMemoryUnregister", {"name": memory.name}) == (200, {})
    status, reply = connect_rpc(daemon, SAMPLE, {"seed": 5, "cudaSharedMemory": rows})
    assert (status, reply["code"]) == (404, "not_found")


async def test_memory_whose_client_died_is_given_up_and_its_bytes_are_bounded() -> None:
    bounds = ("--cuda-shared-memory-idle", "1s", "--cuda-shared-memory-bytes", "8KiB")
    with Daemon(*FLAGS, *bounds) as daemon, CardMemory(bytes(6000)) as dead, CardMemory(bytes(6000)) as memory:
        async with connect(daemon.address) as channel:
            service = oip_grpc.GRPCInferenceServiceStub(channel)
            await service.CudaSharedMemoryRegister(dead.register(), timeout=WAIT_S)
            error = await failure(service.CudaSharedMemoryRegister(memory.register(), timeout=WAIT_S))
            assert error.code().name == "RESOURCE_EXHAUSTED"
            assert "--cuda-shared-memory-bytes" in error.details()
            daemon.wait_event(
                "a region of CUDA memory is unregistered, since no request has named it for long: " + dead.name
            )
            await service.CudaSharedMemoryRegister(memory.register(), timeout=WAIT_S)
        metrics = daemon.metrics()
        assert metrics["samplerd_cuda_shared_memory_expired_total"] == 1
        assert metrics["samplerd_cuda_shared_memory_limit_bytes"] == 8192
        assert metrics["samplerd_cuda_shared_memory_limit_regions"] == 1024


@pytest.mark.parametrize("several", ["--workers", "--doors"])
@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_several_processes_refuse_it_and_say_which_setting_does(transport, several, memory, card) -> None:
    with Daemon(*flags_for(transport), several, "2") as daemon:
        text = f"is not served with {several}: "
        told = [line for line in daemon.log if f"--cuda-shared-memory {text}" in line]
        assert len(told) == 1, daemon.log
        status, reply = ask(daemon, f"{FOLDER}/region/{memory.name}/register", registering(memory))
        assert (status, text in reply["error"]) == (501, True), reply
        assert ask(daemon, f"{FOLDER}/status") == (200, [])
        async with connect(daemon.address) as channel:
            service = oip_grpc.GRPCInferenceServiceStub(channel)
            await service.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(), timeout=WAIT_S)
            for call in (
                service.CudaSharedMemoryRegister(memory.register(), timeout=WAIT_S),
                stub(channel).Sample(pb.SampleRequest(cuda_shared_memory=memory.rows(ROWS)), timeout=WAIT_S),
            ):
                error = await failure(call)
                assert (error.code().name, text in error.details()) == ("UNIMPLEMENTED", True), error.details()
            info = await stub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=WAIT_S)
            assert not [name for name in info.capabilities if "cuda_shared_memory" in name]
        async with SamplerClient(daemon.address) as client:
            with pytest.raises(NotImplementedFieldError, match=several):
                await client.sample(card.tensor(ROWS))
            assert (await client.sample(ROWS, seed=5)).samples.ravel().tolist() == await drawn(
                daemon, tensor=tensor(ROWS)
            )
