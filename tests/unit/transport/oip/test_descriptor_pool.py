"""The protocol's stubs live beside those of other packages, whose messages have the same names."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.transport.rpc.contract import ContractPool, find_method
from samplerd_server.transport.rpc.reflection import _Servicer
from scripts.private_stubs import module

OURS = "samplerd_server.transport.oip.service"
TRITONS = "tritonclient.grpc"

PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from samplerd.oip import grpc_service_pb2 as ours
from tritonclient.grpc import service_pb2 as theirs
request = ours.ModelInferRequest(model_name="sampler")
request.parameters["seed"].int64_param = 7
request.inputs.append(ours.ModelInferRequest.InferInputTensor(name="logits", datatype="FP32", shape=[2]))
read = theirs.ModelInferRequest.FromString(request.SerializeToString())
assert (read.model_name, read.parameters["seed"].int64_param, read.inputs[0].shape) == ("sampler", 7, [2])
again = ours.ModelInferRequest.FromString(read.SerializeToString())
assert again == request and ours.DataType.Name(ours.TYPE_FP32) == "TYPE_FP32"
from google.protobuf.internal import api_implementation
print(api_implementation.Type())
"""


@pytest.mark.parametrize("order", [(OURS, TRITONS), (TRITONS, OURS)], ids=["ours first", "theirs first"])
@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_our_stubs_and_tritons_in_one_process(implementation: str, order: tuple[str, str]) -> None:
    command = [sys.executable, "-c", PROGRAM, *order]
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation, "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, implementation), run.stderr[-2000:]


def test_nothing_is_registered_in_protobufs_own_pool() -> None:
    assert oip.DESCRIPTOR.pool is not descriptor_pool.Default()
    assert oip.DESCRIPTOR.pool.FindMessageTypeByName("inference.ModelInferRequest") is oip.ModelInferRequest.DESCRIPTOR


def test_reflection_finds_both_contracts() -> None:
    servicer = _Servicer((), pool=ContractPool())
    for name, path in {
        "inference.GRPCInferenceService": oip.DESCRIPTOR.name,
        "inference.GRPCInferenceService.ModelInfer": oip.DESCRIPTOR.name,
        "inference.ModelInferRequest": oip.DESCRIPTOR.name,
        "samplerd.v1.SamplerService.Sample": "samplerd/v1/sampler.proto",
        "grpc.health.v1.Health": health_pb2.DESCRIPTOR.name,
    }.items():
        reply = servicer._file_containing_symbol(reflection_pb2.ServerReflectionRequest(), name)
        files = reply.file_descriptor_response.file_descriptor_proto
        assert descriptor_pb2.FileDescriptorProto.FromString(files[0]).name == path
    by_name = servicer._file_by_filename(reflection_pb2.ServerReflectionRequest(), oip.DESCRIPTOR.name)
    assert by_name.file_descriptor_response.file_descriptor_proto
    for message in ("inference.ModelInferRequest", "samplerd.v1.SampleRequest"):
        numbers = servicer._all_extension_numbers_of_type(reflection_pb2.ServerReflectionRequest(), message)
        assert numbers.all_extension_numbers_response.base_type_name == message
    missing = servicer._file_containing_symbol(reflection_pb2.ServerReflectionRequest(), "inference.Nothing")
    assert missing.error_response.error_code == 5


def test_extensions_are_those_of_the_pool_that_has_the_message() -> None:
    pool = ContractPool()
    options = pool.FindMessageTypeByName("google.protobuf.MethodOptions")
    assert pool.FindAllExtensions(options) == list(descriptor_pool.Default().FindAllExtensions(options))
    with pytest.raises(KeyError):
        pool.FindExtensionByNumber(oip.ModelInferRequest.DESCRIPTOR, 1)


def test_a_method_is_found_in_either_pool() -> None:
    found = find_method("inference.GRPCInferenceService", "ModelInfer")
    assert found is not None
    assert found.input_type is oip.ModelInferRequest.DESCRIPTOR
    assert find_method("samplerd.v1.SamplerService", "Sample") is not None
    assert find_method("samplerd.v1.SamplerService", "Draw") is None
    assert find_method("inference.Other", "ModelInfer") is None


def test_a_contract_of_several_files_is_refused() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="a.proto")
    with pytest.raises(ValueError, match="one file"):
        module(descriptor_pb2.FileDescriptorSet(file=[file, file]).SerializeToString())
    file.dependency.append("b.proto")
    with pytest.raises(ValueError, match="imports no other"):
        module(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
