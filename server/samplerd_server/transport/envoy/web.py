"""Calls from browsers and curl: gRPC-Web, and the unary form of the Connect protocol, in JSON and in binary.

Each is a subclass of `AsgiContext`, so that the same handlers answer them; only the encoding of message, reply and
status differs. Unary methods only: a browser cannot stream both ways. Sources: the specification of the Connect
protocol (connectrpc.com, unary), PROTOCOL-WEB.md of the gRPC project.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import message_factory
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy.asgi_context import AsgiContext
from samplerd_server.transport.envoy.frames import FrameError, frame, trailer_headers, whole_message
from samplerd_server.transport.rpc.contract import find_method

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

__all__ = ["WebContext", "web_context"]

_GRPC_WEB = {
    b"application/grpc-web",
    b"application/grpc-web+proto",
    b"application/grpc-web-text",
    b"application/grpc-web-text+proto",
}
_LONG_BYTES = 16 << 10
"""Bytes of a message or its JSON that take the event loop 2 ms to convert."""
_CONNECT = {b"application/json", b"application/proto"}
_DETAILS = "grpc-status-details-bin"
_TRAILERS_FLAG = b"\x80"
_HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""HTTP status by code, from the Connect protocol; 500 for the other codes."""
_CONNECT_NAMES = {Code.CANCELLED: "canceled"}
_MOST_TIMEOUT_MS = 99_999_999


def web_context(  # noqa: PLR0917  # the arguments of an ASGI application
    kind: bytes,
    scope: Mapping[str, Any],
    headers: Mapping[bytes, bytes],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Callable[[Mapping[str, Any]], Awaitable[None]],
    max_message_bytes: int,
) -> WebContext | None:
    """Make the context of a call by its content type; None = it is neither gRPC-Web nor Connect.

    Raises:
        FrameError: the deadline is malformed.

    """
    if kind in _GRPC_WEB:
        return _GrpcWebContext(scope, headers, receive, send, max_message_bytes)
    if kind in _CONNECT:
        timed = {**headers, **_timeout_of(headers)}
        return _ConnectContext(scope, timed, receive, send, max_message_bytes)
    return None


def _timeout_of(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Convert the timeout header of Connect to that of gRPC."""
    text = headers.get(b"connect-timeout-ms")
    if text is None:
        return {}
    if not text.isdigit() or len(text) > 10:
        raise FrameError(Code.INVALID_ARGUMENT, "connect-timeout-ms must be 1 to 10 digits")
    return {b"grpc-timeout": b"%dm" % min(int(text), _MOST_TIMEOUT_MS)}


class WebContext(AsgiContext):
    """The part that both share: the whole body is one message, and so is the reply."""

    __slots__ = ("_kind", "_method")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        scope, headers = parts[0], parts[1]
        self._kind: bytes = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        service, _, name = scope["path"].removeprefix("/").partition("/")
        self._method = find_method(service, name)

    @property
    def is_streaming(self) -> bool:
        """Whether the called method is a streaming one."""
        method = self._method
        return method is not None and bool(method.client_streaming or method.server_streaming)

    async def _read_body(self) -> bytes:
        """Read the body, and stop once it is larger than a message may be."""
        chunks: list[bytes] = []
        size = 0
        most = self._limit if self._kind != b"application/grpc-web-text" else self._limit * 4 // 3 + 16
        while not self._has_read_all:
            chunk = await self._next_body()
            size += len(chunk)
            if size > most + 5:  # gRPC's prefix
                raise FrameError(
                    Code.RESOURCE_EXHAUSTED,
                    f"a message of more than {self._limit} bytes is larger than the limit (--max-message-bytes)",
                )
            chunks.append(chunk)
        return b"".join(chunks)

    async def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        try:
            start = {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}
            await self._send(start)
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        except OSError as error:
            error.__traceback__ = None  # see `AsgiContext.write`


class _GrpcWebContext(WebContext):
    """gRPC-Web: the frames of gRPC, with the trailers as a last frame of the body."""

    __slots__ = ()

    @property
    def _is_text(self) -> bool:
        return b"-text" in self._kind

    async def read_only(self) -> Any:
        body = await self._read_body()
        if self._is_text:
            try:
                body = base64.b64decode(body, validate=True)
            except binascii.Error as error:
                raise FrameError(Code.INVALID_ARGUMENT, "the body is not base64") from error
        message = whole_message(body, self._limit)
        if message is None:
            raise FrameError(Code.INTERNAL, "the body is not exactly one message")
        return self.deserialize(message) if self.deserialize else message

    async def reply(self, message: Any) -> None:
        data = self.serialize(message) if self.serialize else message
        await self._finish(frame(data), trailer_headers(0, "", self._trailers))

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        await self._finish(b"", trailer_headers(code, details, (*self._trailers, *trailers)))

    async def _finish(self, body: bytes, trailers: list[tuple[bytes, bytes]]) -> None:
        if self._is_over:
            return
        self._is_over = True
        lines = b"".join(b"%s: %s\r\n" % trailer for trailer in trailers)
        body += _TRAILERS_FLAG + len(lines).to_bytes(4, "big") + lines
        if self._is_text:
            body = base64.b64encode(body)
        await self._answer(200, [(b"content-type", self._kind)], body)


class _ConnectContext(WebContext):
    """The unary form of Connect: the message is the body, and an error is JSON with an HTTP status."""

    __slots__ = ()

    @property
    def _is_json(self) -> bool:
        return self._kind == b"application/json"

    async def read_only(self) -> Any:
        if self._headers.get(b"content-encoding", b"identity") != b"identity":
            raise FrameError(Code.UNIMPLEMENTED, "compressed messages are not supported; send identity")
        data = await self._read_body()
        if self._is_json and self._method is not None:
            data = await _convert(_from_json, data, message_factory.GetMessageClass(self._method.input_type))
        try:
            return self.deserialize(data) if self.deserialize else data
        except DecodeError as error:
            raise FrameError(Code.INVALID_ARGUMENT, "the body is not a message of this method") from error

    async def reply(self, message: Any) -> None:
        if self._is_over:
            return
        self._is_over = True
        data = self.serialize(message) if self.serialize else message
        if self._is_json and self._method is not None:
            self._is_waiting = True  # the handler is done: there is nothing to cancel
            data = await _convert(_to_json, data, message_factory.GetMessageClass(self._method.output_type))
        await self._answer(200, [(b"content-type", self._kind), *_as_headers(self._trailers)], data)

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        if self._is_over:
            return
        self._is_over = True
        known = Code(code)
        body: dict[str, Any] = {"code": _CONNECT_NAMES.get(known, known.name.lower()), "message": details}
        told = dict(trailers)
        rich = told.pop(_DETAILS, b"")
        if isinstance(rich, bytes) and rich:
            body["details"] = [
                {"type": own.TypeName(), "value": base64.b64encode(own.value).rstrip(b"=").decode()}
                for own in status_pb2.Status.FromString(rich).details
            ]
        headers = [(b"content-type", b"application/json"), *_as_headers((*self._trailers, *told.items()))]
        await self._answer(_HTTP_STATUS.get(known, 500), headers, json.dumps(body).encode())


def _as_headers(trailers: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Give trailing metadata as Connect's unary form has it: headers with a prefix."""
    _, *headers = trailer_headers(0, "", trailers)
    return [(b"trailer-" + name, value) for name, value in headers]


async def _convert(conversion: Callable[[bytes, type[Message]], bytes], data: bytes, kind: type[Message]) -> bytes:
    """Convert from or to JSON, some 150 ns a byte: a long text in another thread, so that others are served."""
    if len(data) <= _LONG_BYTES:
        return conversion(data, kind)
    return await asyncio.to_thread(conversion, data, kind)


def _to_json(data: bytes, kind: type[Message]) -> bytes:
    """Write ProtoJSON."""
    return MessageToJson(kind.FromString(data), indent=None).encode()


def _from_json(data: bytes, kind: type[Message]) -> bytes:
    """Read ProtoJSON.

    Raises:
        FrameError: INVALID_ARGUMENT: it is none, or names a field that there is not.

    """
    try:
        return Parse(data.decode(), kind()).SerializeToString()
    except (ParseError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(Code.INVALID_ARGUMENT, f"the JSON is no {kind.DESCRIPTOR.name}: {error}") from error
