"""Errors as the Connect protocol has them: an object of JSON, an HTTP status, trailers among the headers. Pure.

Source: the specification of the Connect protocol (connectrpc.com), "Error codes" and "Error end stream".
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2

from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy.frames import trailer_headers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.message import Message

    Trailers = Iterable[tuple[str, str | bytes]]

__all__ = ["end_of_stream", "error_body", "http_status", "prefixed_trailers"]

_DETAILS, _REQUEST_ID = "grpc-status-details-bin", b"x-request-id"
_HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""HTTP status by code; 500 for the other codes."""
_NAMES = {Code.CANCELLED: "canceled"}
"""Names of codes that differ from gRPC's."""
_READABLE: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RequestInfo,
        error_details_pb2.RetryInfo,
    )
}
"""Details that are given in JSON too, for people."""


def http_status(code: int) -> int:
    """Give the HTTP status of a unary call that ends with this code."""
    return _HTTP_STATUS.get(Code(code), 500)


def error_body(code: int, message: str, trailers: Trailers) -> bytes:
    """Give the body of a unary call that failed."""
    return json.dumps(_error(code, message, trailers)).encode()


def end_of_stream(code: int, message: str, trailers: Trailers) -> bytes:
    """Give the last message of a stream: how it ended, and its trailers."""
    end: dict[str, Any] = {} if code == Code.OK else {"error": _error(code, message, trailers)}
    metadata: dict[str, list[str]] = {}
    for name, value in _without_details(trailers):
        metadata.setdefault(name.decode(), []).append(value.decode("latin-1"))
    if metadata:
        end["metadata"] = metadata
    return json.dumps(end).encode()


def prefixed_trailers(trailers: Trailers) -> list[tuple[bytes, bytes]]:
    """Give the trailers of a unary call, which are headers with a prefix; the request id has the name all know."""
    headers = _without_details(trailers)
    return [(name if name == _REQUEST_ID else b"trailer-" + name, value) for name, value in headers]


def _without_details(trailers: Trailers) -> list[tuple[bytes, bytes]]:
    """Lay out trailers without the details of an error, which are part of the error here."""
    _, *headers = trailer_headers(0, "", ((name, value) for name, value in trailers if name != _DETAILS))
    return headers


def _error(code: int, message: str, trailers: Trailers) -> dict[str, Any]:
    known = Code(code)
    error: dict[str, Any] = {"code": _NAMES.get(known, known.name.lower()), "message": message}
    for name, value in trailers:
        if name == _DETAILS and isinstance(value, bytes):
            error["details"] = [_detail(detail) for detail in status_pb2.Status.FromString(value).details]
    return error


def _detail(detail: AnyMessage) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": detail.TypeName(),
        "value": base64.b64encode(detail.value).rstrip(b"=").decode(),
    }
    kind = _READABLE.get(detail.TypeName())
    if kind is not None:
        told["debug"] = MessageToDict(kind.FromString(detail.value))
    return told
