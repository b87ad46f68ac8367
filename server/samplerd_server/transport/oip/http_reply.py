"""The arrow from the reply of an RPC to a body of HTTP: JSON, and binary tensors behind it.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import message_factory
from google.protobuf.message import Message

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.transport.oip.json_tensor import to_json
from samplerd_server.transport.oip.tensors import value_of

if TYPE_CHECKING:
    from samplerd_server.transport.oip.http_request import BinaryOutputs
    from samplerd_server.transport.oip.http_routes import Match

__all__ = ["Reply", "write_error", "write_reply"]

_JSON, _BINARY = b"application/json", b"application/octet-stream"
_NOT_READY = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply of HTTP."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    header_length: int | None = None
    """Value of Inference-Header-Content-Length; None = the body is JSON alone."""


def write_reply(match: Match, data: bytes, binary: BinaryOutputs) -> Reply:
    """Write the serialized reply of an RPC."""
    message: Any = message_factory.GetMessageClass(match.output).FromString(data)
    if isinstance(message, oip.ModelInferResponse):
        return _write_inference(message, binary)
    is_negative = isinstance(message, oip.ServerReadyResponse | oip.ModelReadyResponse) and not message.ready
    return Reply(status=_NOT_READY if is_negative else 200, body=_dump(_shape(message)))


def write_error(text: str) -> bytes:
    """Write the body of an error."""
    return _dump({"error": text})


def _dump(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _write_inference(message: oip.ModelInferResponse, binary: BinaryOutputs) -> Reply:
    outputs: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    for output, data in zip(message.outputs, message.raw_output_contents, strict=True):
        own: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = {key: value_of(value) for key, value in output.parameters.items()}
        if parameters:  # it was written to shared memory
            own["parameters"] = parameters
        elif binary.has(output.name):
            own["parameters"] = {"binary_data_size": len(data)}
            blocks.append(data)
        else:
            own["data"] = to_json(output.datatype, data)
        outputs.append(own)
    told = {
        "model_name": message.model_name,
        "model_version": message.model_version,
        **({"id": message.id} if message.id else {}),
        "parameters": {key: value_of(value) for key, value in message.parameters.items()},
        "outputs": outputs,
    }
    head = _dump(told)
    if not blocks:
        return Reply(status=200, body=head)
    return Reply(status=200, body=b"".join((head, *blocks)), content_type=_BINARY, header_length=len(head))


def _shape(message: Message) -> Any:
    """Give the JSON of a reply: that of its fields, unless HTTP has another form for it."""
    if isinstance(message, oip.RepositoryIndexResponse):
        return [_as_json(model) for model in message.models]
    if isinstance(message, oip.ModelConfigResponse):
        return _as_json(message.config)
    if isinstance(message, oip.SystemSharedMemoryStatusResponse | oip.CudaSharedMemoryStatusResponse):
        return [_as_json(region) for region in message.regions.values()]
    if isinstance(message, oip.TraceSettingResponse):
        return {key: list(setting.value) for key, setting in message.settings.items()}
    if isinstance(message, oip.LogSettingsResponse):
        return {key: _setting_of(setting) for key, setting in message.settings.items()}
    return _as_json(message)


def _setting_of(setting: oip.LogSettingsResponse.SettingValue) -> Any:
    kind = setting.WhichOneof("parameter_choice")
    return None if kind is None else getattr(setting, kind)


def _as_json(message: Message) -> dict[str, Any]:
    """Give every field by its name, whole numbers as numbers and enumerations by name, as Triton does."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        names = None if field.enum_type is None else field.enum_type.values_by_number
        value = getattr(message, field.name)
        if isinstance(value, Message):
            found[field.name] = _as_json(value)
        elif isinstance(value, str | int | float):
            found[field.name] = value if names is None else names[int(value)].name
        else:
            found[field.name] = [_as_json(own) if isinstance(own, Message) else own for own in value]
    return found
