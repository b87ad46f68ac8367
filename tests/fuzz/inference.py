"""The Open Inference Protocol: a request in gRPC, raw and typed, and over HTTP, in JSON and binary, gets one answer."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy.connect_status import http_status
from samplerd_server.transport.oip.http_routes import _ROUTES
from tests.fuzz.served import Answer, Call, server
from tests.fuzz.web import frame
from tests.fuzz.wire import damaged, messages

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "/inference.GRPCInferenceService/ModelInfer"
_LENGTH = "inference-header-content-length"
_DTYPES = {
    "BOOL": ("?", "bool_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("<u1", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
    "FP32": ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
}


class Tensor(NamedTuple):
    """An input, whose numbers may be too few for its shape."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    numbers: tuple[Any, ...]

    def stored(self) -> bytes:
        return np.array(self.numbers, _DTYPES[self.datatype][0]).tobytes()


class Inference(NamedTuple):
    """A request."""

    inputs: tuple[Tensor, ...]
    parameters: dict[str, Any]
    outputs: tuple[str, ...]
    name: str


@st.composite
def _tensor(draw: Callable[..., Any], name: str, shape: tuple[int, ...]) -> Tensor:
    rows = name in {"logits", "probabilities", "guidance"}
    usual = ["FP32", "FP32", "FP64"] if rows else ["UINT32", "UINT64", "FP64", "INT64"]
    datatype = draw(st.sampled_from([*usual, draw(st.sampled_from(sorted(_DTYPES)))]))
    kind = np.dtype(_DTYPES[datatype][0])
    if kind.kind == "f":
        number: Any = st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(-4, 4, width=32)
    elif kind.kind == "b":
        number = st.booleans()
    else:
        bounds = np.iinfo(kind)
        number = st.integers(0, 3) | st.integers(int(bounds.min), int(bounds.max))
    count = max(0, int(np.prod(shape)) + draw(st.sampled_from([0] * 12 + [-1, 1])))
    return Tensor(name, datatype, shape, tuple(draw(st.lists(number, min_size=count, max_size=count))))


_value = (
    st.booleans()
    | st.integers(0, 3)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["1", "0.5", "true", "vllm", "processed", "", "x", "-1", "1e3", "é"])
)
_NAMES = ("temperature", "top_k", "top_p", "min_p", "num_samples", "draw_offset", "replacement", "order", "logprobs")
_MORE = ("priority", "timeout", "ties", "steps", "triton_x", "no_such", "seed")


@st.composite
def _inference(draw: Callable[..., Any]) -> Inference:
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    shapes = [(rows, width)] * 6 + [(rows,), (), (0, width), (rows, -1), (1,) * 9]
    inputs = [
        draw(_tensor(draw(st.sampled_from(["logits", "logits", "probabilities"])), draw(st.sampled_from(shapes))))
    ]
    for name in draw(st.lists(st.sampled_from(["temperature", "seed", "top_k", "guidance", "other"]), max_size=2)):
        shape = (rows, width) if name == "guidance" else draw(st.sampled_from([(1,), (rows,), (rows, 1)]))
        inputs.append(draw(_tensor(name, shape)))
    names = draw(st.lists(st.sampled_from((*_NAMES, *_MORE)), max_size=3, unique=True))
    parameters = {"seed": 5, **{name: draw(_value) for name in names}}
    if parameters.get("num_samples", 1) in range(1, 64) and draw(st.booleans()):
        parameters.pop("timeout", None)
    outputs = draw(st.lists(st.sampled_from(["samples", "logprobs", "samples", "no"]), max_size=2))
    return Inference(tuple(inputs), parameters, tuple(outputs), draw(st.sampled_from(["", "a", "é"])))


inferences = _inference()


def _as_message(asked: Inference, *, is_typed: bool) -> bytes:
    message = oip.ModelInferRequest(model_name="sampler", id=asked.name)
    for own in asked.inputs:
        tensor = message.inputs.add(name=own.name, datatype=own.datatype, shape=own.shape)
        if is_typed:
            getattr(tensor.contents, _DTYPES[own.datatype][1]).extend(own.numbers)
        else:
            message.raw_input_contents.append(own.stored())
    for key, value in asked.parameters.items():
        parameter = message.parameters[key]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            setattr(parameter, "int64_param" if value < 2**63 else "uint64_param", value)
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = value
    for name in asked.outputs:
        message.outputs.add(name=name)
    return message.SerializeToString()


def _as_http(asked: Inference, *, is_binary: bool) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    inputs, blocks = [], []
    for own in asked.inputs:
        told: dict[str, Any] = {"name": own.name, "datatype": own.datatype, "shape": list(own.shape)}
        if is_binary:
            blocks.append(own.stored())
            told["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            told["data"] = list(own.numbers)
        inputs.append(told)
    body: dict[str, Any] = {"inputs": inputs, "parameters": dict(asked.parameters)}
    if asked.name:
        body["id"] = asked.name
    if asked.outputs:
        body["outputs"] = [{"name": name} for name in asked.outputs]
    if is_binary:
        body["parameters"]["binary_data_output"] = True
    head = json.dumps(body).encode()
    return head + b"".join(blocks), ((_LENGTH, str(len(head))),) if is_binary else ()


class Told(NamedTuple):
    """What an answer says."""

    status: int
    outputs: dict[str, list[float | None]]


def _finite(values: list[float]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]


_OUTPUT = {"INT32": "<i4", "FP32": "<f4"}


def _read_grpc(answer: Answer) -> Told:
    code = int(answer.headers["grpc-status"])
    if code:
        return Told(http_status(code), {})
    message = oip.ModelInferResponse.FromString(answer.body[5:])
    pairs = zip(message.outputs, message.raw_output_contents, strict=True)
    return Told(200, {own.name: _finite(np.frombuffer(raw, _OUTPUT[own.datatype]).tolist()) for own, raw in pairs})


def _read_http(answer: Answer) -> Told:
    if answer.status != 200:
        assert json.loads(answer.body).keys() == {"error"}
        return Told(answer.status, {})
    length = int(answer.headers.get(_LENGTH, len(answer.body)))
    rest, found = answer.body[length:], {}
    for own in json.loads(answer.body[:length])["outputs"]:
        if "data" in own:
            found[own["name"]] = own["data"]
            continue
        size = own["parameters"]["binary_data_size"]
        found[own["name"]] = _finite(np.frombuffer(rest[:size], _OUTPUT[own["datatype"]]).tolist())
        rest = rest[size:]
    assert not rest
    return Told(200, found)


def _grpc(data: bytes) -> Call:
    return Call("POST", _PATH, headers=(("content-type", "application/grpc"), ("te", "trailers")), body=frame(data))


def same_inference(asked: Inference) -> None:
    """The same tensors, or errors of the same status."""
    expected = _read_grpc(server().answer(_grpc(_as_message(asked, is_typed=False))))
    assert expected.status != 500
    assert _read_grpc(server().answer(_grpc(_as_message(asked, is_typed=True)))) == expected, "typed contents"
    for is_binary in (False, True):
        body, headers = _as_http(asked, is_binary=is_binary)
        answer = server().answer(Call("POST", "/v2/models/sampler/infer", headers=headers, body=body))
        assert _read_http(answer) == expected, "binary" if is_binary else "JSON"


# ------------------------------------------------------------------------------------------------ whatever arrives
_KEYS = (
    *("inputs", "outputs", "parameters", "id", "name", "datatype", "shape", "data", "binary_data", "binary_data_size"),
    *("binary_data_output", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "key", "offset"),
    *("byte_size", "raw_handle", "b64", "device_id", "ready", "timeout", "seed", "classification", "\ud800", "é"),
    *("model_name", "model_version", "repository_name", "settings", "version"),
)
_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 0.5, 1e308, float("nan"), float("inf")])
    | st.sampled_from(
        ["", "a", "FP32", "logits", "sampler", "\ud800", "é", "\0", "0.5", base64.b64encode(b"{}").decode()]
    ),
    lambda own: st.lists(own, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), own, max_size=4),
    max_leaves=12,
)


@st.composite
def _any_call(draw: Callable[..., Any]) -> Call:
    method, path, _ = draw(st.sampled_from(_ROUTES))
    for name in ("name", "version", "model_name", "model_version"):
        path = path.replace(f"{{{name}}}", draw(st.sampled_from(["sampler", "1", "x", "é", "\ufffd"])))
    tensor = {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [0, 1]}
    body: Any = draw(_anything)
    if path.endswith("/infer") and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(tensor)))
        body = {"inputs": [{**tensor, key: draw(_anything)}], draw(st.sampled_from(_KEYS[1:4])): draw(_anything)}
    elif draw(st.booleans()):
        body = draw(st.dictionaries(st.sampled_from(_KEYS), _anything, max_size=4))
    data = json.dumps(body).encode()
    headers = []
    if draw(st.integers(0, 3)) == 0:
        headers.append((_LENGTH, draw(st.sampled_from([str(len(data)), "0", "1", "99999999999", "-1", "x"]))))
        data += draw(st.binary(max_size=9))
    return Call(method if draw(st.integers(0, 5)) else "POST", path, headers=tuple(headers), body=data)


http_calls = _any_call()
infer_messages = damaged(messages(oip.ModelInferRequest.DESCRIPTOR))


def some_http_answer(call: Call) -> None:
    """Whatever JSON arrives gets an answer in JSON, which is not that the server has failed."""
    answer = server().answer(call)
    assert answer.is_whole
    assert answer.status != 500, answer
    length = int(answer.headers.get(_LENGTH, len(answer.body)))
    json.loads(answer.body[:length] or b"null")


def some_grpc_answer(data: bytes) -> None:
    """Whatever message arrives gets a status, which is not that the server has failed."""
    answer = server().answer(_grpc(data))
    assert answer.is_whole
    assert int(answer.headers["grpc-status"]) not in {Code.INTERNAL, Code.UNKNOWN}, answer
