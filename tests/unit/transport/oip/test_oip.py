"""Tensors and parameters of the Open Inference Protocol, without a server."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.errors import AlreadyExistsError, InvalidRequestError, NotFoundError, SamplerdError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.sampling import parameters as table
from samplerd_server.sampling.parameters import ParamKind
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.oip.parameters import PARAMETERS, set_parameter
from samplerd_server.transport.oip.regions import Regions
from samplerd_server.transport.oip.registry import Place, RegistryFullError, SharedMemoryRegistry
from samplerd_server.transport.oip.tensors import read_inputs
from samplerd_server.transport.oip.translate import Translator
from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions, RegionBounds


def test_a_parameter_that_is_no_number_is_refused_by_its_name():
    others = [row.name for row in table.PARAMETERS if row.name not in PARAMETERS and row.kind is not ParamKind.CHOICE]
    assert others
    for name in others:
        with pytest.raises(InvalidRequestError, match=name):
            set_parameter(pb.SampleRequest(), name, 1)


def test_every_scalar_of_the_contract_is_a_parameter():
    numbers = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_UINT32}
    scalars = {
        field.name
        for field in pb.SamplingParams.DESCRIPTOR.fields
        # Not is_repeated, which protobuf 6.30 lacks: what is repeated is no number by itself.
        if field.cpp_type in numbers and isinstance(getattr(pb.SamplingParams(), field.name), int | float)
    }
    assert set(PARAMETERS) == scalars


TYPED = {
    "INT8": "int_contents",
    "UINT16": "uint_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
STORED = {"INT8": "<i1", "UINT16": "<u2", "INT64": "<i8", "UINT64": "<u8", "FP32": "<f4", "FP64": "<f8"}


@given(st.sampled_from(sorted(TYPED)), st.lists(st.integers(0, 100), min_size=1, max_size=9))
def test_typed_contents_are_the_same_as_raw_ones(datatype, values):
    typed, raw = oip.ModelInferRequest(), oip.ModelInferRequest()
    for request in (typed, raw):
        request.inputs.add(name="a", datatype=datatype, shape=[len(values)])
    getattr(typed.inputs[0].contents, TYPED[datatype]).extend(values)
    raw.raw_input_contents.append(np.array(values, STORED[datatype]).tobytes())
    assert read_inputs(typed, None) == read_inputs(raw, None)
    assert read_inputs(raw, None)["a"].numbers().tolist() == values


def test_typed_contents_beyond_their_type_are_refused():
    request = oip.ModelInferRequest()
    request.inputs.add(name="a", datatype="INT8", shape=[1]).contents.int_contents.append(128)
    with pytest.raises(InvalidRequestError, match="no INT8"):
        read_inputs(request, None)


@given(st.binary(max_size=60))
def test_no_message_raises_anything_but_an_error_of_ours(data):
    try:
        request = oip.ModelInferRequest.FromString(data)
    except Exception:  # noqa: BLE001  # not a message
        return
    with contextlib.suppress(SamplerdError):
        read_inputs(request, None)


@given(st.sampled_from(sorted(PARAMETERS)), st.integers(0, 2**32 - 1))
def test_whole_doubles_and_integers_mean_the_same(name, value):
    messages = [pb.SampleRequest(), pb.SampleRequest()]
    for message, own in zip(messages, (value, float(value)), strict=True):
        set_parameter(message, name, own)
    assert messages[0] == messages[1]


@given(st.sampled_from(sorted(PARAMETERS)), st.one_of(st.integers(0, 2**32 - 1), st.floats(0, 1e9)))
def test_numbers_and_their_texts_mean_the_same(name, value):
    outcomes = []
    for own in (value, repr(value), f"+{value!r}"):
        message = pb.SampleRequest()
        try:
            set_parameter(message, name, own)
        except InvalidRequestError:
            outcomes.append(None)
        else:
            outcomes.append(message)
    assert outcomes[0] == outcomes[1] == outcomes[2]


LONG = "x" * 100_000


def long_requests() -> list[oip.ModelInferRequest]:
    """Requests that each have something long in a place that an error message names."""
    requests = [oip.ModelInferRequest(model_name="sampler") for _ in range(13)]
    for request in requests[2:]:
        request.inputs.add(name="logits", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    requests[0].model_name = LONG
    requests[1].model_version = LONG
    requests[2].inputs[0].name = LONG
    requests[3].inputs[0].datatype = LONG
    requests[4].inputs[0].shape[:] = [1] * len(LONG)
    requests[5].inputs[0].shape[:] = [2**62] * len(LONG)
    requests[6].inputs[0].shape[:] = [-1] * len(LONG)
    requests[7].inputs[0].parameters[LONG].int64_param = 1
    requests[8].parameters[LONG].int64_param = 1
    requests[9].outputs.add(name=LONG)
    for request, (key, text) in zip(requests[10:], (("temperature", LONG), ("steps", "top_k " * 30_000)), strict=False):
        request.parameters[key].string_param = text
    requests[12].inputs[0].parameters["shared_memory_region"].string_param = LONG
    requests[12].inputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    return requests


@pytest.mark.parametrize("number", range(13))
def test_what_a_client_sent_is_shown_within_bounds(number):
    registry = SharedMemoryRegistry(Keys())  # type: ignore[arg-type]
    regions = Regions(
        registry, CudaRegions(None, why_off="is off", bounds=RegionBounds(1 << 20, 1, 0.0), metrics=Metrics())
    )
    translator = Translator(decoder=Decoder(limits=LimitsConfig(), capabilities=frozenset()), regions=regions)
    with pytest.raises(SamplerdError) as told:
        translator.translate(long_requests()[number])
    assert len(str(told.value)) < 1_000
    with pytest.raises(NotFoundError) as told:
        registry.status(LONG)
    assert len(str(told.value)) < 1_000


@pytest.mark.parametrize(("given_", "meant"), [(0, 0), (1, 0), (2, -1), (101, -100)])
def test_priorities_of_the_protocol(given_, meant):
    message = pb.SampleRequest()
    set_parameter(message, "priority", given_)
    assert message.priority == meant


class Keys:
    """Regions of which any key may be named."""

    def resolve(self, key, path):
        return key


def test_names_are_bounded_and_taken_once():
    regions = SharedMemoryRegistry(Keys())  # type: ignore[arg-type]
    for number in range(1024):
        regions.register(str(number), Place("key", 0, 8))
    with pytest.raises(AlreadyExistsError):
        regions.register("7", Place("key", 0, 8))
    with pytest.raises(RegistryFullError):
        regions.register("one more", Place("key", 0, 8))
    regions.unregister("7")
    regions.register("one more", Place("key", 4, 8))
    assert regions.place("one more", 2, 6, "x") == Place("key", 6, 6)
    with pytest.raises(InvalidRequestError):
        regions.place("one more", 3, 6, "x")
    regions.unregister("")
    assert not regions.status("")


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_names_have_a_length(name):
    with pytest.raises(InvalidRequestError):
        SharedMemoryRegistry(Keys()).register(name, Place("key", 0, 8))  # type: ignore[arg-type]
