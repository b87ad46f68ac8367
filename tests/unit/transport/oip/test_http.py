"""The Open Inference Protocol over HTTP, from bytes to messages and back, without a server."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.core.errors import InvalidRequestError, MessageTooLargeError, NotFoundError, SamplerdError
from samplerd_server.transport.oip import http_request
from samplerd_server.transport.oip.contract import INFERENCE
from samplerd_server.transport.oip.http_reply import write_reply
from samplerd_server.transport.oip.http_request import BinaryOutputs, read_request
from samplerd_server.transport.oip.http_routes import _ROUTES, find_route, is_inference_path
from samplerd_server.transport.oip.json_tensor import from_json, to_json
from samplerd_server.transport.oip.model import config

INFER = find_route("POST", "/v2/models/sampler/infer")
NONE_BINARY = BinaryOutputs(unless_named=False, named={})


def read(body: Any, rest: bytes = b"", match: Any = INFER) -> tuple[Any, BinaryOutputs]:
    head = json.dumps(body).encode()
    data, binary = read_request(match, head + rest, str(len(head)) if rest else None)
    return GetMessageClass(match.input).FromString(data), binary


# Paths.


@pytest.mark.parametrize(("method", "path", "rpc"), _ROUTES)
def test_what_a_path_names_is_a_field_of_its_request(method, path, rpc):
    request = INFERENCE.contract.methods_by_name[rpc].input_type
    parts = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    match = find_route(method, path.replace("{", "").replace("}", ""))
    assert (match.rpc, dict(match.fields)) == (rpc, {part: part for part in parts})
    assert set(parts) <= set(request.fields_by_name)
    assert is_inference_path(path)


def test_every_rpc_but_the_stream_has_a_path():
    assert {rpc for *_, rpc in _ROUTES} == {method.name for method in INFERENCE.contract.methods} - {"ModelStreamInfer"}


def test_there_are_no_other_paths():
    for path in ("/v2/", "/v2/health/live/"):
        assert find_route("GET", path).rpc
    for path in ("/v2/models", "/v2/models/", "/v2/models//infer", "/v2/nothing", "/v2/" + "x" * 10_000):
        with pytest.raises(NotFoundError) as told:
            find_route("POST", path)
        assert len(str(told.value)) < 200
    assert find_route("GET", "/v2/models/sampler/infer").allow == ("POST",)
    assert set(find_route("PUT", "/v2/logging").allow) == {"GET", "POST"}
    assert not is_inference_path("/v21")
    assert not is_inference_path("/samplerd.v1.SamplerService/Sample")


# Requests.


def test_numbers_of_json_and_binary_data_mean_the_same():
    row = np.array([[1, 2, 0.5, -np.inf]], "<f4")
    shape = {"name": "logits", "shape": [1, 4], "datatype": "FP32"}
    nested, _ = read({"inputs": [{**shape, "data": row.tolist()}]})
    flat, _ = read({"inputs": [{**shape, "data": row[0].tolist()}]})
    binary, _ = read({"inputs": [{**shape, "parameters": {"binary_data_size": 16}}]}, row.tobytes())
    assert nested == flat
    assert nested.raw_input_contents == binary.raw_input_contents == [row.tobytes()]
    assert (nested.model_name, nested.model_version) == ("sampler", "")


def test_binary_tensors_follow_in_the_order_of_the_inputs():
    given = [
        {"name": "a", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}},
        {"name": "b", "shape": [1], "datatype": "INT16", "data": [258]},
        {"name": "c", "shape": [1], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}},
        {"name": "d", "shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": 1}},
    ]
    message, _ = read({"id": "one", "inputs": given}, b"123")
    assert message.id == "one"
    assert message.raw_input_contents == [b"12", b"\x02\x01", b"3"]
    assert message.inputs[2].parameters["shared_memory_region"].string_param == "r"


def test_parameters_keep_their_kinds():
    given = {"a": True, "b": 2**63 - 1, "c": 2**64 - 1, "d": 0.5, "e": "text", "f": -3}
    message, _ = read({"inputs": [], "parameters": given})
    kinds = {key: own.WhichOneof("parameter_choice") for key, own in message.parameters.items()}
    assert [kinds[key] for key in "abcdef"] == [
        *("bool_param", "int64_param", "uint64_param", "double_param", "string_param", "int64_param")
    ]
    assert message.parameters["c"].uint64_param == 2**64 - 1


def test_each_output_is_binary_or_not():
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    _, binary = read({"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": True}})
    assert [binary.has(name) for name in "abc"] == [True, False, True]
    _, binary = read({"inputs": []})
    assert not binary.has("a")


TENSOR = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
WRONG: list[tuple[Any, bytes, str]] = [
    ([], b"", "must be a JSON object"),
    ({}, b"", "request.inputs"),
    ({"inputs": {}}, b"", "request.inputs"),
    ({"inputs": [1]}, b"", "inputs[0]"),
    ({"inputs": [{**TENSOR, "name": 1}]}, b"", "inputs[0].name"),
    ({"inputs": [{**TENSOR, "shape": "1"}]}, b"", "inputs[0].shape"),
    ({"inputs": [{**TENSOR, "shape": [1.5]}]}, b"", "inputs[0].shape"),
    ({"inputs": [{**TENSOR, "shape": [2**63]}]}, b"", "inputs[0].shape"),
    ({"inputs": [{**TENSOR, "datatype": None}]}, b"", "inputs[0].datatype"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}, b"", "inputs[0].data"),
    ({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 9}}]}, b"1", "9 bytes, but 1 are left"),
    ({"inputs": [{**TENSOR, "parameters": {"binary_data_size": -1}}]}, b"1", "binary_data_size"),
    ({"inputs": [{**TENSOR, "parameters": {"binary_data_size": "1"}}]}, b"1", "binary_data_size"),
    ({"inputs": [TENSOR]}, b"1", "1 bytes follow"),
    ({"inputs": [], "id": 1}, b"", "request.id"),
    ({"inputs": [], "parameters": {"a": None}}, b"", "'a'"),
    ({"inputs": [], "parameters": {"a": 2**64}}, b"", "'a'"),
    ({"inputs": [], "parameters": {"a": float("nan")}}, b"", "'a'"),
    ({"inputs": [], "parameters": {"binary_data_output": 1}}, b"", "binary_data_output"),
    ({"inputs": [], "outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, b"", "binary_data"),
    ({"inputs": [], "outputs": ["a"]}, b"", "outputs[0]"),
]


@pytest.mark.parametrize(("body", "rest", "text"), WRONG, ids=[text for *_, text in WRONG])
def test_what_is_wrong_is_named(body, rest, text):
    with pytest.raises(InvalidRequestError) as told:
        read(body, rest)
    assert text in str(told.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"inputs": [], "id": "\\ud800"}',
        b'{"inputs": [], "id": "\\uDC00 \\ud83d"}',
        b'{"inputs": [], "id": "\xed\xa0\x80"}',
        b"\xff",
        b"[" * 60_000,
        b'{"a": [' + b"[]," * 70_000 + b"[]]}",
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"inputs": []} x',
    ],
)
def test_what_is_no_json_is_refused(body):
    with pytest.raises(InvalidRequestError):
        read_request(INFER, body, None)


def test_a_character_of_two_escapes_is_one():
    message, _ = read({"inputs": [], "id": "\U0001f600 \\ud800"})
    assert message.id == "\U0001f600 \\ud800"


@pytest.mark.parametrize("length", ["-1", "x", "3", "1" * 20, "²"])
def test_the_length_of_the_json_is_within_the_body(length):
    with pytest.raises(InvalidRequestError, match="Inference-Header-Content-Length"):
        read_request(INFER, b"{}", length)


def test_json_is_bounded_and_binary_data_is_not(monkeypatch):
    monkeypatch.setattr(http_request, "MAX_JSON_BYTES", 200)
    given = {"name": "x", "shape": [250], "datatype": "FP32", "parameters": {"binary_data_size": 1000}}
    message, _ = read({"inputs": [given]}, bytes(1000))
    assert len(message.raw_input_contents[0]) == 1000
    with pytest.raises(MessageTooLargeError):
        read({"inputs": [], "id": "x" * 200})


def test_small_requests_are_read_by_their_fields():
    register = find_route("POST", "/v2/systemsharedmemory/region/mine/register")
    message, _ = read({"key": "k", "offset": 3, "byte_size": 2**40, "else": 1}, match=register)
    assert (message.name, message.key, message.offset, message.byte_size) == ("mine", "k", 3, 2**40)
    with pytest.raises(InvalidRequestError, match="byte_size"):
        read({"key": "k", "byte_size": -1}, match=register)
    cuda = find_route("POST", "/v2/cudasharedmemory/region/mine/register")
    message, _ = read({"raw_handle": {"b64": base64.b64encode(b"h").decode()}}, match=cuda)
    assert message.raw_handle == b"h"
    with pytest.raises(InvalidRequestError, match="raw_handle"):
        read({"raw_handle": "h"}, match=cuda)
    log, _ = read({"log_verbose_level": 1}, match=find_route("POST", "/v2/logging"))
    assert "log_verbose_level" in log.settings
    assert read_request(find_route("POST", "/v2/repository/index"), b"", None)[0] == b""


@given(st.binary(max_size=80), st.none() | st.text(max_size=4))
def test_no_body_raises_anything_but_an_error_of_ours(body, length):
    for match in (INFER, find_route("POST", "/v2/logging"), find_route("POST", "/v2/repository/index")):
        with contextlib.suppress(SamplerdError):
            read_request(match, body, length)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("name", "shape", "datatype", "data", "parameters", "id", "outputs", "inputs"), JSON)
)


@given(
    st.fixed_dictionaries({"inputs": st.lists(FIELDS, max_size=2)}, optional={"outputs": st.lists(FIELDS), "id": JSON})
)
def test_no_json_raises_anything_but_an_error_of_ours(body):
    with contextlib.suppress(SamplerdError):
        read(body)


# Tensors.


@given(st.sampled_from(["FP16", "FP32", "FP64"]), st.lists(st.floats(width=16), min_size=1, max_size=6))
def test_numbers_with_a_fraction_come_through(datatype, values):
    back = to_json(datatype, from_json(datatype, values, "x"))
    assert back == [value if np.isfinite(value) else None for value in values]


@pytest.mark.parametrize("datatype", [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)])
def test_whole_numbers_are_exact_to_their_bounds(datatype):
    bounds = np.iinfo(datatype.lower())
    extremes = [int(bounds.min), int(bounds.max)]
    assert to_json(datatype, from_json(datatype, extremes, "x")) == extremes
    for beyond in (extremes[0] - 1, extremes[1] + 1):
        with pytest.raises(InvalidRequestError):
            from_json(datatype, [beyond], "x")
    assert to_json(datatype, from_json(datatype, [3.0], "x")) == [3]
    for wrong in (1.5, float("nan"), float("inf"), 1e30, True, "1", None):
        with pytest.raises(InvalidRequestError):
            from_json(datatype, [wrong], "x")


@pytest.mark.parametrize("data", [[[1], [1, 2]], ["1"], [None], [{}], "1", 1, None, [[[[1]]], 2]])
def test_what_is_no_even_array_of_numbers_is_refused(data):
    with pytest.raises(InvalidRequestError):
        from_json("FP32", data, "x")


def test_what_json_cannot_hold_comes_as_binary_data():
    for datatype in ("BF16", "BYTES", "x" * 1_000):
        with pytest.raises(InvalidRequestError, match="binary data") as told:
            from_json(datatype, [1], "x")
        assert len(str(told.value)) < 300


# Replies.


def test_a_reply_is_json_unless_binary_data_is_asked_for():
    message = oip.ModelInferResponse(model_name="sampler", model_version="1", id="one")
    message.parameters["seed"].int64_param = 2**62
    message.outputs.add(name="samples", datatype="INT32", shape=[1, 2])
    message.outputs.add(name="logprobs", datatype="FP32", shape=[1, 2])
    message.outputs.add(name="away", datatype="FP32", shape=[1]).parameters["shared_memory_byte_size"].int64_param = 4
    arrays = [np.array([1, -1], "<i4").tobytes(), np.array([-0.5, np.nan], "<f4").tobytes(), b""]
    message.raw_output_contents.extend(arrays)
    data = message.SerializeToString()
    plain = write_reply(INFER, data, NONE_BINARY)
    told = json.loads(plain.body, parse_constant=pytest.fail)
    assert (told["id"], told["parameters"]) == ("one", {"seed": 2**62})
    assert [own.get("data") for own in told["outputs"]] == [[1, -1], [-0.5, None], None]
    assert told["outputs"][2]["parameters"] == {"shared_memory_byte_size": 4}
    assert plain.header_length is None
    mixed = write_reply(INFER, data, BinaryOutputs(unless_named=True, named={"samples": False}))
    told = json.loads(mixed.body[: mixed.header_length])
    assert told["outputs"][0]["data"] == [1, -1]
    assert told["outputs"][1]["parameters"] == {"binary_data_size": 8}
    assert mixed.body[mixed.header_length :] == arrays[1]


def test_settings_and_descriptions_have_the_forms_of_triton():
    described = json.loads(
        write_reply(
            find_route("GET", "/v2/models/sampler/config"),
            oip.ModelConfigResponse(config=config(4096)).SerializeToString(),
            NONE_BINARY,
        ).body
    )
    assert described["max_batch_size"] == 4096
    assert described["input"][0] == {"name": "logits", "data_type": "TYPE_FP32", "dims": [-1], "optional": False}
    index = oip.RepositoryIndexResponse()
    index.models.add(name="sampler", version="1", state="READY")
    route = find_route("POST", "/v2/repository/index")
    [model] = json.loads(write_reply(route, index.SerializeToString(), NONE_BINARY).body)
    assert model == {"name": "sampler", "version": "1", "state": "READY", "reason": ""}
    ready = find_route("GET", "/v2/health/ready")
    for is_ready, status in ((True, 200), (False, 503)):
        reply = write_reply(ready, oip.ServerReadyResponse(ready=is_ready).SerializeToString(), NONE_BINARY)
        assert (reply.status, json.loads(reply.body)) == (status, {"ready": is_ready})
