"""The RPCs that are served are those of the contracts, and everything that lists them does so from one descriptor."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from google.protobuf.message_factory import GetMessageClass

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.app.app import RPCS, App
from samplerd_server.config import MetricsConfig, ServerConfig
from samplerd_server.transport.rpc.contract import SAMPLER
from samplerd_server.transport.rpc.descriptor import Kind, rpcs_of
from tests.support.engine import HeldSampler, StubEngine

SERVICES = [service for file in (pb, oip) for service in file.DESCRIPTOR.services_by_name.values()]
KINDS = {(False, False): Kind.UNARY, (False, True): Kind.SERVER_STREAM, (True, True): Kind.BIDI_STREAM}
METHODS = {(service.full_name, method.name): method for service in SERVICES for method in service.methods}


@pytest.fixture
async def app() -> App:
    config = ServerConfig(metrics=MetricsConfig(listen=""))
    return App(config, StubEngine(HeldSampler()), asyncio.get_running_loop())  # type: ignore[arg-type]


def test_every_rpc_of_the_contracts_is_answered_once_and_no_other():
    assert [(rpc.service, rpc.name) for rpc in RPCS] == list(METHODS)


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
def test_kind_and_messages_are_those_of_the_contract(rpc):
    method = METHODS[rpc.service, rpc.name]
    assert rpc.kind is KINDS[method.client_streaming, method.server_streaming]
    assert rpc.request is GetMessageClass(method.input_type)
    assert rpc.response is GetMessageClass(method.output_type)
    answers = {Kind.UNARY: rpc.answer, Kind.SERVER_STREAM: rpc.replies, Kind.BIDI_STREAM: rpc.stream}
    assert [kind for kind, answer in answers.items() if answer is not None] == [rpc.kind]


@pytest.mark.parametrize(("service", "name"), METHODS)
async def test_the_server_has_a_handler_of_the_right_shape(app, service, name):
    details = SimpleNamespace(method=f"/{service}/{name}", invocation_metadata=())
    found = [handler for own in app.handlers.generic if (handler := own.service(details)) is not None]
    assert len(found) == 1
    (handler,) = found
    method = METHODS[service, name]
    assert (handler.request_streaming, handler.response_streaming) == (method.client_streaming, method.server_streaming)
    functions = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    (function,) = [function for function in functions if function is not None]
    assert asyncio.iscoroutinefunction(function)
    assert (handler.request_deserializer, handler.response_serializer) == (None, None)


async def test_every_rpc_is_counted(app):
    families = {family.name: family for family in app.metrics.collect()}
    methods = {
        (labels["grpc_service"], labels["grpc_method"]) for _, labels, *_ in families["grpc_server_started"].samples
    }
    assert methods == set(METHODS)
    assert {sample.labels["rpc"] for sample in families["samplerd_requests"].samples} == {name for _, name in METHODS}
    timed = {sample.labels["rpc"] for sample in families["samplerd_request_seconds"].samples}
    assert timed - {"other"} < {name for _, name in METHODS}
    assert {"other", "Sample", "VerifyDraft", "ModelInfer"} < timed


async def test_the_first_error_of_an_rpc_is_an_increase_of_a_series_that_is_there(app):
    families = {family.name: family for family in app.metrics.collect()}
    for name, label, codes in (
        ("samplerd_requests", "rpc", {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "NOT_FOUND"}),
        ("grpc_server_handled", "grpc_method", {"InvalidArgument", "ResourceExhausted", "Cancelled", "Internal"}),
    ):
        known = [sample.labels for sample in families[name].samples if sample.labels[label] == "Sample"]
        assert codes < {labels.get("code", labels.get("grpc_code")) for labels in known}


async def test_limits_stand_beside_what_they_limit(app):
    values = {family.name: family.samples[0].value for family in app.metrics.collect() if "limit" in family.name}
    own = ServerConfig()
    assert values == {
        "samplerd_queue_limit_rows": own.admission.queue_rows,
        "samplerd_queue_limit_bytes": own.admission.queue_bytes,
        "samplerd_batch_limit_rows": own.batching.max_rows,
        "samplerd_distribution_limit": own.distributions.max_count,
        "samplerd_distribution_limit_bytes": own.distributions.max_bytes,
        "samplerd_cuda_shared_memory_limit_regions": 0,  # none can be registered here
        "samplerd_cuda_shared_memory_limit_bytes": 0,
    }


async def test_a_server_has_few_series(app):
    assert sum(len(family.samples) for family in app.metrics.collect()) < 800


async def test_every_rpc_of_our_own_contract_is_a_capability(app):
    info = await app.handlers.service.get_server_info(pb.GetServerInfoRequest(), None)
    own = [name for service, name in METHODS if service == "samplerd.v1.SamplerService"]
    assert list(info.capabilities)[: len(own)] == own
    assert not {name for service, name in METHODS if service.startswith("inference.")} & set(info.capabilities)


async def test_health_knows_every_service(app):
    assert set(app.handlers.health.services) == {"", *(service.full_name for service in SERVICES)}


def test_an_rpc_that_the_contract_lacks_cannot_be_declared():
    with pytest.raises(KeyError, match="Sing"):
        SAMPLER.unary("Sing", pb.SampleRequest, pb.SampleResponse)(lambda owner, request, call: None)  # type: ignore[arg-type, return-value]


def test_the_order_is_that_of_the_contract():
    class Two:
        @SAMPLER.bidi_stream("VerifyDraftStream", pb.VerifyDraftRequest, pb.VerifyDraftResponse)
        async def verify(self, call):
            raise NotImplementedError

        @SAMPLER.unary_bytes("Sample", pb.SampleRequest, pb.SampleResponse)
        async def sample(self, data, call):
            raise NotImplementedError

    assert [rpc.name for rpc in rpcs_of(Two)] == ["Sample", "VerifyDraftStream"]
