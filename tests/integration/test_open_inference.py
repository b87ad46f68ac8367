"""The Open Inference Protocol on both transports, with Triton's own client and with messages made by hand."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from benchmarks.load import LoadError
from benchmarks.perf_analyzer import analyze, write_inputs
from samplerd.oip import grpc_service_pb2 as oip
from samplerd.oip import grpc_service_pb2_grpc as oip_grpc
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.request import RNG
from tests.support.regions import PREFIX, Region
from tests.support.served import Served, connect, failure
from tests.support.tools import need_perf_analyzer
from tests.unit.transport.oip.test_oip import LONG, long_requests

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
CLIENT = Path(__file__).parents[1] / "support" / "triton_client.py"
ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
SAMPLES = [1, 3, 3, 2, 1]
"""Of ROW at T = 0.7 with the seed 42, by the native protocol."""
STORED = {"FP32": "<f4", "FP64": "<f8", "FP16": "<f2", "INT64": "<i8", "UINT64": "<u8", "UINT32": "<u4"}


def ask(logits: Any = ROW, datatype: str = "FP32", *, name: str = "logits", **parameters: Any) -> oip.ModelInferRequest:
    """A request with one tensor of rows, raw."""
    request = oip.ModelInferRequest(model_name="sampler")
    add(request, name, np.asarray(logits), datatype)
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for key, value in parameters.items():
        setattr(request.parameters[key], kinds[type(value)], value)
    return request


def add(request: oip.ModelInferRequest, name: str, array: Any, datatype: str) -> None:
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.astype(STORED[datatype]).tobytes())


def ids(reply: oip.ModelInferResponse) -> list[int]:
    [at] = [number for number, output in enumerate(reply.outputs) if output.name == "samples"]
    return np.frombuffer(reply.raw_output_contents[at], "<i4").tolist()


@pytest_asyncio.fixture(loop_scope="session")
async def inference(address) -> Any:
    async with connect(address) as channel:
        yield oip_grpc.GRPCInferenceServiceStub(channel)


async def refused(call: Any, code: Any, text: str) -> None:
    error = await failure(call)
    assert error.code() is code, error
    assert text in (error.details() or ""), error


async def test_tritons_load_generator(daemon, tmp_path):
    need_perf_analyzer()
    port = int(daemon.address.rpartition(":")[2])
    row = np.random.default_rng(1).normal(0.0, 3.0, 1_000).astype("<f4")
    write_inputs(tmp_path / "good.json", row, 0.8)
    found = await asyncio.to_thread(analyze, port, tmp_path / "good.json", in_flight=8, window_ms=300)
    assert found.inferences_per_s > 0
    assert 0 < found.p50_ms <= found.p99_ms
    write_inputs(tmp_path / "bad.json", row, -1.0)
    with pytest.raises(LoadError, match="temperature"):
        await asyncio.to_thread(analyze, port, tmp_path / "bad.json", in_flight=8, window_ms=300)


async def test_tritons_own_client(daemon):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(CLIENT), daemon.address, PREFIX),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, told = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, told.decode()
    got = json.loads(printed)
    assert got["live"] == [True] * 3
    assert got["name"] == "samplerd"
    assert {"logits", "probabilities", "temperature", "top_k", "seed"} <= set(got["inputs"])
    assert got["max_batch_size"] == 4096
    assert got["plain"] == got["half"] == got["async"] == [SAMPLES]
    assert got["id"] == "one"
    assert got["each"][0] == [1] * 5
    assert got["each"][2] == SAMPLES  # its own seed, as if it had come alone
    assert got["only"]
    assert np.exp(got["logprobs"])[0] == pytest.approx([0.5416, 0.2651, 0.2651, 0.0635, 0.5416], abs=1e-4)
    assert "INVALID_ARGUMENT" in got["wrong"]
    assert "top_p" in got["wrong"]
    assert "no parameter 'nonsense'" in got["unknown"]
    assert "NOT_FOUND" in got["model"]
    assert "sequence" in got["sequence"]
    assert got["stream"]["results"] == {str(n): [SAMPLES] for n in range(8) if n != 3}
    [error] = got["stream"]["errors"]
    assert "top_p" in error
    assert got["shared"]["samples"] == SAMPLES
    assert got["shared"]["listed"] == ["own"]
    assert "INVALID_ARGUMENT" in got["shared"]["beyond"]
    assert "NOT_FOUND" in got["shared"]["gone"]
    assert got["count"] > 0


async def test_guidance_is_an_input_of_its_own(service, inference):
    logits, guidance = np.random.default_rng(5).normal(0, 2, (2, 3, 200)).astype(np.float32)
    request = ask(logits, seed=4, num_samples=6)
    add(request, "guidance", guidance, "FP64")
    add(request, "guidance_scale", np.array([1.5, 1.0, 3.0]), "FP64")
    tensor = pb.Tensor(rows=3, vocab_size=200, data=logits.tobytes())
    native = await service.Sample(
        pb.SampleRequest(
            tensor=tensor,
            guidance=pb.Guidance(tensor=pb.Tensor(rows=3, vocab_size=200, data=guidance.tobytes())),
            row_params=[pb.SamplingParams(guidance_scale=scale) for scale in (1.5, 1.0, 3.0)],
            seed=4,
            num_samples=6,
        )
    )
    assert ids(await inference.ModelInfer(request)) == list(native.samples)
    await refused(inference.ModelInfer(ask(guidance_scale=2.0)), CODE.INVALID_ARGUMENT, "params.guidance_scale")
    request = ask(guidance_scale=2.0)
    add(request, "guidance", guidance, "FP32")
    await refused(inference.ModelInfer(request), CODE.INVALID_ARGUMENT, "guidance: 3 guidance rows for 1 rows")


async def test_the_same_seed_gives_the_same_ids_as_natively(service, inference):
    logits = np.random.default_rng(3).normal(0, 2, (5, 300)).astype(np.float32)
    tensor = pb.Tensor(rows=5, vocab_size=300, data=logits.tobytes())
    options = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    native = await service.Sample(
        pb.SampleRequest(tensor=tensor, params=pb.SamplingParams(**options), seed=99, num_samples=7, draw_offset=3)
    )
    reply = await inference.ModelInfer(ask(logits, seed=99, num_samples=7, draw_offset=3, **options))
    assert ids(reply) == list(native.samples)
    assert [list(output.shape) for output in reply.outputs] == [[5, 7], [5, 7]]
    assert reply.parameters["seed"].int64_param == 99  # which every client of the protocol can read
    assert reply.parameters["rng"].string_param == RNG
    request = ask(logits, num_samples=7)
    add(request, "seed", np.arange(5), "UINT64")
    add(request, "top_k", np.array([[1], [2], [3], [4], [5]]), "INT64")
    row_params = [pb.SamplingParams(top_k=k) for k in range(1, 6)]
    native = await service.Sample(
        pb.SampleRequest(tensor=tensor, row_params=row_params, row_seeds=range(5), num_samples=7)
    )
    assert ids(await inference.ModelInfer(request)) == list(native.samples)


@pytest.mark.parametrize(("name", "datatype"), [("logits", "FP32"), ("logits", "FP64"), ("probabilities", "FP16")])
async def test_rows_of_every_kind(inference, name, datatype):
    rows = np.array([[0, 8, 0, 0], [0, 0, 0, 9]], np.float32) * (1 if name == "probabilities" else 10)
    assert ids(await inference.ModelInfer(ask(rows, datatype, name=name))) == [1, 3]


async def test_rows_of_bfloat16(inference):
    request = ask(ROW)
    request.inputs[0].datatype = "BF16"
    request.raw_input_contents[0] = (ROW.view("<u4") >> 16).astype("<u2").tobytes()
    request.parameters["temperature"].double_param = 0.0
    assert ids(await inference.ModelInfer(request)) == [1]


async def test_typed_contents(inference):
    request = ask(ROW, seed=42, num_samples=5, temperature=0.7)
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend(ROW[0].tolist())
    assert ids(await inference.ModelInfer(request)) == SAMPLES


async def test_outputs_come_in_the_order_asked_for(inference):
    request = ask(seed=42, num_samples=5, temperature=0.7, logprobs="raw")
    request.outputs.add(name="logprobs")
    request.outputs.add(name="samples")
    reply = await inference.ModelInfer(request)
    assert [output.name for output in reply.outputs] == ["logprobs", "samples"]
    assert np.frombuffer(reply.raw_output_contents[1], "<i4").tolist() == SAMPLES
    raw = np.log(np.exp(ROW[0]) / np.exp(ROW[0]).sum())
    assert np.frombuffer(reply.raw_output_contents[0], "<f4") == pytest.approx(raw[SAMPLES], abs=1e-5)


async def test_a_row_that_fails_alone_is_told(inference):
    rows = np.array([[1, 2], [np.nan, 0]], np.float32)
    reply = await inference.ModelInfer(ask(rows, temperature=0.0))
    assert ids(reply) == [1, -1]
    [error] = json.loads(reply.parameters["row_errors"].string_param)
    assert (error["row"], error["reason"]) == (1, "NAN")
    await refused(inference.ModelInfer(ask(rows[1:])), CODE.INVALID_ARGUMENT, "NaN")


def without_logits() -> oip.ModelInferRequest:
    return oip.ModelInferRequest(model_name="sampler")


def both() -> oip.ModelInferRequest:
    request = ask()
    add(request, "probabilities", ROW, "FP32")
    return request


def twice() -> oip.ModelInferRequest:
    request = ask()
    add(request, "logits", ROW, "FP32")
    return request


def with_tensor(name: str, array: Any, datatype: str = "FP32", **parameters: Any) -> oip.ModelInferRequest:
    request = ask(np.repeat(ROW, 3, 0), **parameters)
    add(request, name, np.asarray(array), datatype)
    return request


def with_output(*names: str, **parameters: Any) -> oip.ModelInferRequest:
    request = ask(**parameters)
    for name in names:
        request.outputs.add(name=name)
    return request


def broken(change: Any) -> oip.ModelInferRequest:
    request = ask()
    change(request)
    return request


WRONG = [
    (without_logits(), "give the rows once"),
    (both(), "give the rows once"),
    (twice(), "comes twice"),
    (ask(np.zeros((1, 1, 4))), "neither [rows, V] nor [V]"),
    (ask(ROW, "INT64"), "logits.datatype"),
    (broken(lambda r: r.raw_input_contents.__setitem__(0, b"1234")), "4 bytes, but 1 x 4 of FP32 are 16"),
    (broken(lambda r: r.raw_input_contents.append(b"")), "raw_input_contents"),
    (broken(lambda r: r.raw_input_contents.pop()), "0 bytes"),
    (broken(lambda r: r.inputs[0].contents.fp32_contents.append(1)), "logits.contents"),
    (broken(lambda r: r.inputs[0].shape.__setitem__(0, -1)), "logits.shape"),
    (broken(lambda r: setattr(r.inputs[0], "datatype", "BYTES")), "logits.datatype"),
    (with_tensor("nonsense", [1.0]), "no input 'nonsense'"),
    (ask(np.zeros((1,) * 9)), "9 dimensions"),
    (ask(temperature="0x1"), "parameters.temperature"),
    (ask(temperature="nan"), "parameters.temperature"),
    (ask(seed=str(1 << 64)), "parameters.seed"),
    (with_tensor("temperature", [1.0, 2.0]), "temperature.shape"),
    (with_tensor("temperature", [[1.0, 2.0, 3.0]]), "temperature.shape"),
    (with_tensor("temperature", [1.0], temperature=0.5), "temperature"),
    (with_tensor("top_k", [1.5]), "top_k"),
    (with_tensor("seed", [-1, 2, 3], "INT64"), "seed"),
    (with_tensor("num_samples", [1, 2, 3], "INT64"), "num_samples"),
    (with_output("nonsense"), "outputs[0].name"),
    (with_output("samples", "samples"), "outputs[1].name"),
    (ask(temperature="hot"), "parameters.temperature"),
    (ask(top_k=2.5), "parameters.top_k"),
    (ask(seed=-1), "parameters.seed"),
    (ask(replacement=1), "parameters.replacement"),
    (ask(order="mine"), "parameters.order"),
    (ask(logprobs="all"), "parameters.logprobs"),
    (ask(priority=102), "parameters.priority"),
    (ask(timeout=-1), "parameters.timeout"),
    (ask(sequence_start=True), "no parameter 'sequence_start'"),
]


@pytest.mark.parametrize(("request_", "text"), WRONG, ids=[text for _, text in WRONG])
async def test_what_is_wrong_is_named(inference, request_, text):
    await refused(inference.ModelInfer(request_), CODE.INVALID_ARGUMENT, text)


async def test_what_every_client_sends_is_let_pass(inference):
    assert ids(await inference.ModelInfer(ask(temperature=0.0, triton_whatever=1, binary_data_output=True))) == [1]


async def test_other_models_are_not_found(inference):
    for request in (ask(), ask()):
        request.model_name = "other"
        await refused(inference.ModelInfer(request), CODE.NOT_FOUND, "other")
    for name, version, ready in (("sampler", "1", True), ("sampler", "2", False), ("x", "", False)):
        assert (await inference.ModelReady(oip.ModelReadyRequest(name=name, version=version))).ready is ready
    await refused(inference.ModelConfig(oip.ModelConfigRequest(name="sampler", version="2")), CODE.NOT_FOUND, "'2'")
    await refused(inference.ModelConfig(oip.ModelConfigRequest(name="x")), CODE.NOT_FOUND, "Request for unknown model")


async def test_shared_memory_both_ways(inference):
    with Region(ROW.tobytes() + bytes(20)) as region:
        register = oip.SystemSharedMemoryRegisterRequest(name="mine", key=region.key, byte_size=36)
        await inference.SystemSharedMemoryRegister(register)
        await refused(inference.SystemSharedMemoryRegister(register), CODE.ALREADY_EXISTS, "mine")
        request = ask(seed=42, num_samples=5, temperature=0.7)
        del request.raw_input_contents[:]
        place(request.inputs[0], "mine", 16, 0)
        place(request.outputs.add(name="samples"), "mine", 20, 16)
        request.outputs.add(name="logprobs")
        reply = await inference.ModelInfer(request)
        assert np.frombuffer(region.path.read_bytes()[16:], "<i4").tolist() == SAMPLES
        assert reply.raw_output_contents[0] == b""
        assert len(reply.raw_output_contents[1]) == 20
        place(request.outputs[0], "mine", 16, 20)
        await refused(inference.ModelInfer(request), CODE.INVALID_ARGUMENT, "room for 16")
        place(request.outputs[0], "mine", 20, 17)
        await refused(inference.ModelInfer(request), CODE.INVALID_ARGUMENT, "not within")
        os.truncate(region.path, 30)
        place(request.outputs[0], "mine", 20, 16)
        await refused(inference.ModelInfer(request), CODE.INVALID_ARGUMENT, "beyond")
        assert region.path.stat().st_size == 30  # nothing grows
        await inference.SystemSharedMemoryUnregister(oip.SystemSharedMemoryUnregisterRequest(name="mine"))
        await refused(inference.ModelInfer(request), CODE.NOT_FOUND, "mine")


def place(tensor: Any, name: str, size: int, offset: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = name
    tensor.parameters["shared_memory_byte_size"].int64_param = size
    tensor.parameters["shared_memory_offset"].int64_param = offset


async def test_regions_outside_the_prefix_are_denied(inference):
    register = oip.SystemSharedMemoryRegisterRequest(name="theirs", key="somebody-elses", byte_size=1)
    await refused(inference.SystemSharedMemoryRegister(register), CODE.PERMISSION_DENIED, "key")


async def test_shared_memory_is_off_unless_it_is_turned_on():
    async with Served() as served, connect(served.address) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        register = oip.SystemSharedMemoryRegisterRequest(name="mine", key="mine", byte_size=1)
        await refused(stub.SystemSharedMemoryRegister(register), CODE.UNIMPLEMENTED, "--shared-memory")
        assert not (await stub.SystemSharedMemoryStatus(oip.SystemSharedMemoryStatusRequest())).regions
        status = oip.SystemSharedMemoryStatusRequest(name="mine")
        await refused(stub.SystemSharedMemoryStatus(status), CODE.NOT_FOUND, "mine")
        # The first thing that Triton's examples do.
        await stub.SystemSharedMemoryUnregister(oip.SystemSharedMemoryUnregisterRequest())
        request = ask()
        del request.raw_input_contents[:]
        place(request.inputs[0], "mine", 16, 0)
        await refused(stub.ModelInfer(request), CODE.UNIMPLEMENTED, "shared_memory_region")


async def test_it_waits_its_turn_and_is_late_by_its_own_timeout(serve):
    async with serve() as served, connect(served.address) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        first = stub.ModelInfer(with_output("samples", temperature=0.0))
        await served.entered()
        second = stub.ModelInfer(with_output("samples"))  # is fetched while the first is computed
        await served.until(lambda: served.app.batcher.in_flight == 2)
        cancelled = stub.ModelInfer(with_output("samples"))
        await served.until(lambda: len(served.app.queue) == 1)
        cancelled.cancel()
        late = stub.ModelInfer(with_output("samples", timeout=1000))
        assert (await failure(late)).code() is CODE.DEADLINE_EXCEEDED  # it does not wait for the batch that stands
        served.sampler.open()
        assert len(ids(await first) + ids(await second)) == 2


async def test_memory_of_cuda_devices_is_not_registered_where_it_is_off(inference):
    register = oip.CudaSharedMemoryRegisterRequest(name="mine", raw_handle=b"1", byte_size=1)
    await refused(inference.CudaSharedMemoryRegister(register), CODE.UNIMPLEMENTED, "--cuda-shared-memory")
    await inference.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest())
    await inference.CudaSharedMemoryUnregister(oip.CudaSharedMemoryUnregisterRequest(name="mine"))
    assert not (await inference.CudaSharedMemoryStatus(oip.CudaSharedMemoryStatusRequest())).regions
    await refused(inference.CudaSharedMemoryStatus(oip.CudaSharedMemoryStatusRequest(name="a")), CODE.NOT_FOUND, "'a'")


async def test_the_repository_has_one_model_which_stays(inference):
    [model] = (await inference.RepositoryIndex(oip.RepositoryIndexRequest())).models
    assert (model.name, model.version, model.state) == ("sampler", "1", "READY")
    load = oip.RepositoryModelLoadRequest(model_name="other")
    await refused(inference.RepositoryModelLoad(load), CODE.UNIMPLEMENTED, "failed to load")
    unload = oip.RepositoryModelUnloadRequest(model_name="sampler")
    await refused(inference.RepositoryModelUnload(unload), CODE.UNIMPLEMENTED, "one model")


async def test_settings_are_read_and_not_written(inference):
    assert (await inference.TraceSetting(oip.TraceSettingRequest())).settings["trace_level"].value == ["OFF"]
    await refused(inference.TraceSetting(oip.TraceSettingRequest(model_name="x")), CODE.NOT_FOUND, "'x'")
    change = oip.TraceSettingRequest(model_name="sampler")
    change.settings["trace_level"].value.append("TIMESTAMPS")
    await refused(inference.TraceSetting(change), CODE.UNIMPLEMENTED, "no traces")
    settings = (await inference.LogSettings(oip.LogSettingsRequest())).settings
    assert settings["log_info"].bool_param
    assert settings["log_verbose_level"].uint32_param == 0
    louder = oip.LogSettingsRequest()
    louder.settings["log_verbose_level"].uint32_param = 1
    await refused(inference.LogSettings(louder), CODE.UNIMPLEMENTED, "--log-level")


async def test_numbers_may_be_texts_where_a_client_has_nothing_else(service, inference):
    texts = {"temperature": "0.7", "seed": str(2**64 - 1), "num_samples": "5", "top_k": "3.0", "replacement": "True"}
    reply = await inference.ModelInfer(ask(**texts))
    native = await service.Sample(
        pb.SampleRequest(
            tensor=pb.Tensor(rows=1, vocab_size=4, data=ROW.tobytes()),
            params=pb.SamplingParams(temperature=0.7, top_k=3),
            seed=2**64 - 1,
            num_samples=5,
        )
    )
    assert ids(reply) == list(native.samples)
    assert reply.parameters["seed"].uint64_param == 2**64 - 1


async def test_a_seed_that_the_server_chose_can_be_sent_again(inference):
    for _ in range(8):  # each is below 2^63 by chance in one of two cases
        first = await inference.ModelInfer(ask(num_samples=5))
        seed = first.parameters["seed"].int64_param
        assert first.parameters["seed"].WhichOneof("parameter_choice") == "int64_param"
        assert ids(await inference.ModelInfer(ask(num_samples=5, seed=seed))) == ids(first)


async def test_what_belongs_to_http_says_nothing_over_grpc(inference):
    request = with_output("samples", temperature=0.0)
    request.inputs[0].parameters["binary_data_size"].int64_param = 7
    request.outputs[0].parameters["binary_data"].bool_param = False
    assert ids(await inference.ModelInfer(request)) == [1]
    request.outputs[0].parameters["classification"].int64_param = 3
    await refused(inference.ModelInfer(request), CODE.UNIMPLEMENTED, "classification")


async def test_a_reply_of_a_stream_says_that_it_is_the_last(inference):
    call = inference.ModelStreamInfer()
    await call.write(ask(temperature=0.0))
    reply = (await call.read()).infer_response
    assert reply.parameters["triton_final_response"].bool_param
    await call.done_writing()


async def test_figures_are_real(inference, daemon):
    before = (await inference.ModelStatistics(oip.ModelStatisticsRequest(name="sampler"))).model_stats[0]
    await asyncio.gather(*(inference.ModelInfer(ask(np.zeros((2, 8)))) for _ in range(10)))
    await failure(inference.ModelInfer(ask(top_p=7.0)))
    after = (await inference.ModelStatistics(oip.ModelStatisticsRequest())).model_stats[0]
    assert after.inference_count - before.inference_count == 20
    assert after.inference_stats.success.count - before.inference_stats.success.count == 10
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    metrics = await asyncio.to_thread(daemon.metrics)
    assert metrics['samplerd_requests_total{code="OK",rpc="ModelInfer"}'] >= 10


async def test_health_knows_the_service_and_readiness_ends_with_the_drain(serve):
    async with serve() as served, connect(served.address) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
        held = stub.ModelInfer(with_output("samples"))
        await served.entered()
        served.app.handlers.service.drain()
        assert not (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(oip.ModelReadyRequest(name="sampler"))).ready
        assert (await stub.RepositoryIndex(oip.RepositoryIndexRequest())).models[0].state == "UNAVAILABLE"
        assert not (await stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True))).models
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
        served.sampler.open()
        assert len(ids(await held)) == 1


def size_of(error: grpc.aio.AioRpcError) -> int:
    """Bytes of what an error says, details in trailers included."""
    return len((error.details() or "").encode()) + sum(
        len(key) + len(value) for key, value in error.trailing_metadata()
    )


async def test_what_a_client_sent_comes_back_cut(inference):
    """A status travels in headers, of which clients and proxies take a few KiB: longer ones would lose the status."""
    for number, request in enumerate(long_requests()):
        error = await failure(inference.ModelInfer(request))
        assert error.code() in {CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.UNIMPLEMENTED}, (number, error)
        assert size_of(error) < 4_000, number
    register = oip.SystemSharedMemoryRegisterRequest
    for call in (
        inference.ModelMetadata(oip.ModelMetadataRequest(name=LONG)),
        inference.ModelMetadata(oip.ModelMetadataRequest(name="sampler", version=LONG)),
        inference.ModelConfig(oip.ModelConfigRequest(name=LONG)),
        inference.ModelStatistics(oip.ModelStatisticsRequest(name=LONG)),
        inference.TraceSetting(oip.TraceSettingRequest(model_name=LONG)),
        inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=LONG)),
        inference.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=LONG)),
        inference.SystemSharedMemoryStatus(oip.SystemSharedMemoryStatusRequest(name=LONG)),
        inference.SystemSharedMemoryRegister(register(name=LONG, key=PREFIX, byte_size=8)),
        inference.SystemSharedMemoryRegister(register(name="own", key=LONG, byte_size=8)),
        inference.SystemSharedMemoryRegister(register(name="own", key=f"{PREFIX}{LONG}", byte_size=8)),
        inference.CudaSharedMemoryStatus(oip.CudaSharedMemoryStatusRequest(name=LONG)),
    ):
        assert size_of(await failure(call)) < 4_000
    requests = long_requests()
    for at, request in enumerate(requests):
        request.id = str(at)
    replies = [reply async for reply in inference.ModelStreamInfer(iter(requests))]
    assert {reply.infer_response.id for reply in replies} == {str(at) for at in range(len(requests))}
    assert all(0 < len(reply.error_message) < 1_000 for reply in replies)
