"""The arrow from a body of HTTP to the message of an RPC: JSON, and binary tensors behind it.

Sources: the REST form of the Open Inference Protocol, and Triton's extension for binary tensors: the header
Inference-Header-Content-Length says where the JSON ends, and the tensors follow in the order of the inputs, each of the
length that its parameter binary_data_size says. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf import message_factory

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.core.errors import InvalidRequestError, MessageTooLargeError
from samplerd_server.transport.oip.echo import shown
from samplerd_server.transport.oip.json_tensor import from_json

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from samplerd_server.transport.oip.http_routes import Match

__all__ = ["MAX_JSON_BYTES", "BinaryOutputs", "read_request"]

MAX_JSON_BYTES = 8 << 20
"""Most bytes of JSON: 0.1 s of the event loop for numbers as Python writes them, 0.4 s for the shortest ones."""
_MAX_BRACKETS = 1 << 16
"""Most arrays and objects of JSON, as many as no request has: a million of them take half a second."""
_BINARY_SIZE, _BINARY, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_REGION = "shared_memory_region"
_INT64, _UINT64 = 1 << 63, 1 << 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a character that JSON writes as two escapes; alone it is none."""
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryOutputs:
    """Which outputs of a reply are binary rather than JSON."""

    unless_named: bool
    """What holds for an output that the request does not name by itself."""
    named: dict[str, bool]

    def has(self, name: str) -> bool:
        """Whether this one is."""
        return self.named.get(name, self.unless_named)


def read_request(match: Match, body: bytes, header_length: str | None) -> tuple[bytes, BinaryOutputs]:
    """Read a body; returns the serialized message of the RPC, and which outputs of the reply shall be binary.

    Args:
        match: the RPC, and the fields that the path gives.
        body: the inflated body.
        header_length: the value of Inference-Header-Content-Length, if the request has it.

    Raises:
        InvalidRequestError: the body is malformed or is not of this RPC.
        MessageTooLargeError: it has more than `MAX_JSON_BYTES` of JSON.

    """
    message: Any = message_factory.GetMessageClass(match.input)()
    for name, value in match.fields.items():
        setattr(message, name, value)
    length = _length_of_json(header_length, len(body))
    binary = BinaryOutputs(unless_named=False, named={})
    if isinstance(message, oip.ModelInferRequest):
        binary = _Inference(message, memoryview(body)[length:]).read(_parse(body, length))
    elif length:
        _read_fields(message, _parse(body, length))
    return message.SerializeToString(), binary


def _length_of_json(header_length: str | None, size: int) -> int:
    if header_length is None:
        length = size
    elif header_length.isascii() and header_length.isdigit() and len(header_length) < 12:
        length = int(header_length)
    else:
        raise InvalidRequestError("Inference-Header-Content-Length", f"{shown(header_length)} is no number of bytes")
    if length > size:
        raise InvalidRequestError(
            "Inference-Header-Content-Length", f"{length} is more than the {size} bytes of the body"
        )
    if length > MAX_JSON_BYTES:
        raise MessageTooLargeError(f"JSON of {length} bytes", MAX_JSON_BYTES)
    return length


def _parse(body: bytes, length: int) -> dict[str, Any]:
    if body.count(b"[", 0, length) + body.count(b"{", 0, length) > _MAX_BRACKETS:
        raise InvalidRequestError("request", f"the JSON has more than {_MAX_BRACKETS} arrays and objects")
    try:
        text = body[:length].decode(json.detect_encoding(body[:length]))
        found = json.loads(text)
        if _SURROGATE.search(text):  # no message holds half of a character
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("request", f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise InvalidRequestError("request", "the body must be a JSON object")
    return found


def _read_fields(message: Message, body: dict[str, Any]) -> None:
    """Read the fields of a small request: those of its message by name, and settings by theirs."""
    if isinstance(message, oip.TraceSettingRequest | oip.LogSettingsRequest):
        for key in body:
            message.settings[key].SetInParent()  # no setting can be changed, whatever its value
        return
    for key, value in body.items():
        known = message.DESCRIPTOR.fields_by_name.get(key)
        if known is None:
            continue  # as Triton does
        if key == "raw_handle":
            value = _bytes_of(value)  # noqa: PLW2901  # the same value in another form
        try:
            setattr(message, key, value)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(key, f"{shown(value)} is not of the right type") from error


def _bytes_of(value: Any) -> bytes:
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidRequestError("raw_handle", 'must be {"b64": ...}') from error


class _Inference:
    """One request for ModelInfer."""

    def __init__(self, message: oip.ModelInferRequest, rest: memoryview) -> None:
        self._message = message
        self._rest = rest
        """Binary tensors that have not been taken yet."""

    def read(self, body: dict[str, Any]) -> BinaryOutputs:
        self._message.id = _field(body, "id", str, "", "request")
        parameters = _field(body, "parameters", dict, {}, "request")
        is_binary = _flag(parameters, _BINARY_OUTPUT, "parameters", unless_given=False)
        _copy_parameters(parameters, self._message.parameters, "parameters")
        for number, tensor in enumerate(_field(body, "inputs", list, None, "request")):
            self._read_input(tensor, f"inputs[{number}]")
        if len(self._rest):
            raise InvalidRequestError("request", f"{len(self._rest)} bytes follow that belong to no input")
        named: dict[str, bool] = {}
        for number, output in enumerate(_field(body, "outputs", list, [], "request")):
            path = f"outputs[{number}]"
            name = _field(_object(output, path), "name", str, None, path)
            asked = self._message.outputs.add(name=name)
            own = _field(output, "parameters", dict, {}, path)
            named[name] = _flag(own, _BINARY, path, unless_given=is_binary)
            _copy_parameters(own, asked.parameters, f"{path}.parameters")
        return BinaryOutputs(unless_named=is_binary, named=named)

    def _read_input(self, given: Any, path: str) -> None:
        given = _object(given, path)
        tensor = self._message.inputs.add(
            name=_field(given, "name", str, None, path), datatype=_field(given, "datatype", str, None, path)
        )
        try:
            tensor.shape.extend(_field(given, "shape", list, None, path))
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{path}.shape", "must be a list of whole numbers below 2^63") from error
        parameters = _field(given, "parameters", dict, {}, path)
        _copy_parameters(parameters, tensor.parameters, f"{path}.parameters")
        if _REGION in parameters:
            return
        size = parameters.get(_BINARY_SIZE)
        if size is None:
            if "data" not in given:
                raise InvalidRequestError(f"{path}.data", f"is missing, and so is the parameter {_BINARY_SIZE}")
            data = from_json(tensor.datatype, given["data"], f"{path}.data")
        else:
            data = self._take(size, path)
        self._message.raw_input_contents.append(data)

    def _take(self, size: Any, path: str) -> bytes:
        path = f"{path}.parameters.{_BINARY_SIZE}"
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidRequestError(path, f"{shown(size)} is no number of bytes")
        if size > len(self._rest):
            raise InvalidRequestError(path, f"{size} bytes, but {len(self._rest)} are left of the body")
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(path, "must be a JSON object")
    return value


def _field(body: dict[str, Any], name: str, kind: type[_Kind], default: _Kind | None, path: str) -> _Kind:
    """Give a field of a JSON object, which must be of this type; without a default it must be there."""
    value = body.get(name, default)
    if not isinstance(value, kind):
        raise InvalidRequestError(f"{path}.{name}", f"must be a JSON {_NAMES[kind]}")
    return value


_NAMES: dict[type, str] = {str: "string", list: "array", dict: "object"}


def _flag(parameters: dict[str, Any], name: str, path: str, *, unless_given: bool) -> bool:
    value = parameters.get(name, unless_given)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{path}.{name}", f"{shown(value)} is neither true nor false")
    return value


def _copy_parameters(given: dict[str, Any], to: Any, path: str) -> None:
    """Copy the values of a JSON object to parameters of the contract."""
    for key, value in given.items():
        own = to[key]
        if isinstance(value, bool):
            own.bool_param = value
        elif isinstance(value, int) and -_INT64 <= value < _UINT64:
            setattr(own, "int64_param" if value < _INT64 else "uint64_param", value)
        elif isinstance(value, float) and math.isfinite(value):
            own.double_param = value
        elif isinstance(value, str):
            own.string_param = value
        else:
            raise InvalidRequestError(path, f"{shown(key)} must be a number, a string, true or false")
