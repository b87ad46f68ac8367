"""The unary calls of the Connect protocol, in JSON and in binary: by POST, and by GET where they have no side effects.

The body is the message, and an error is JSON with an HTTP status. Source: the specification of the Connect protocol
(connectrpc.com), "Unary-Request", "Unary-Get-Request" and "Unary-Response".
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import DecodeError

from samplerd_server.core.errors import Code, InvalidRequestError, NotImplementedFieldError
from samplerd_server.transport.envoy.connect_status import error_body, http_status, prefixed_trailers
from samplerd_server.transport.envoy.frames import FrameError
from samplerd_server.transport.envoy.proto_json import find_method, from_json, to_json
from samplerd_server.transport.envoy.web_context import WebContext
from samplerd_server.transport.rpc.compression import ENCODINGS, IDENTITY, compress, inflate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KINDS", "ConnectContext", "ConnectGetContext", "may_get", "with_timeout"]

KINDS = (b"application/json", b"application/proto")
"""Content types."""
_MOST_TIMEOUT_MS = 99_999_999
_VERSION = b"1"
_NO_STORE = (b"cache-control", b"no-store")
"""Replies are not cached on the way: without a seed a draw differs each time, and a list of distributions changes."""


def with_timeout(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Give the timeout of Connect as that of gRPC, unless it is malformed: `ConnectContext.problem` tells."""
    text = headers.get(b"connect-timeout-ms", b"")
    return {**headers, b"grpc-timeout": b"%dm" % min(int(text), _MOST_TIMEOUT_MS)} if _is_timeout(text) else headers


def _is_timeout(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 10


def may_get(path: str) -> bool:
    """Whether GET may call a method: it is unary and declares that it has no side effects."""
    method = find_method(path)
    return (
        method is not None
        and not method.client_streaming
        and not method.server_streaming
        and method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    )


class ConnectContext(WebContext):
    """A unary call by POST."""

    protocol = "connect"
    accept_header = b"accept-encoding"
    encoding_header = b"content-encoding"

    __slots__ = ()

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.problem = self.problem or self._find_problem()

    def _find_problem(self) -> InvalidRequestError | NotImplementedFieldError | FrameError | None:
        """Find what is wrong with the headers."""
        headers = self._headers
        timeout = headers.get(b"connect-timeout-ms")
        if timeout is not None and not _is_timeout(timeout):
            return FrameError(Code.INVALID_ARGUMENT, "connect-timeout-ms must be 1 to 10 digits")
        if headers.get(b"connect-protocol-version", _VERSION) != _VERSION:
            return FrameError(Code.INVALID_ARGUMENT, "connect-protocol-version must be 1")
        if self._encoding not in ENCODINGS:
            return _unknown_encoding(self._encoding)
        return self._find_wrong_kind()

    def _find_wrong_kind(self) -> NotImplementedFieldError | None:
        if self.is_streaming:
            return NotImplementedFieldError(self._path, "is a stream: its content type is application/connect+json")
        return None

    @property
    def _path(self) -> str:
        path: str = self._scope["path"]
        return path

    @property
    def _encoding(self) -> str:
        return self._headers.get(self.encoding_header, b"").decode("latin-1").strip().lower() or IDENTITY

    @property
    def _is_json(self) -> bool:
        return self._kind.endswith(b"json")

    async def read_only(self) -> Any:
        """Read the message, which is the whole body.

        Raises:
            SamplerdError: it is too large, wrongly compressed, or not a message of this method.
            DisconnectedError: the client has disconnected.

        """
        body = await self._read_all(self._limit)
        return await self._decode(await inflate(body, self._encoding, self._limit))

    async def _decode(self, data: bytes) -> Any:
        """Give what the handler takes.

        Raises:
            InvalidRequestError: the data is not a message of this method.

        """
        assert self._method is not None, "a handler of a method that is in no contract. This is a bug."
        if self._is_json:
            data = await from_json(data, self._method.input_type)
        try:
            return self.deserialize(data) if self.deserialize else data
        except DecodeError as error:
            raise InvalidRequestError("request", f"not a {self._method.input_type.name}") from error

    async def _encode(self, message: Any) -> bytes:
        data: bytes = self.serialize(message) if self.serialize else message
        assert self._method is not None, "a handler of a method that is in no contract. This is a bug."
        return await to_json(data, self._method.output_type) if self._is_json else data

    async def reply(self, message: Any) -> None:
        """Send the only message and end the call with OK."""
        body = await self._encode(message)
        headers = [(b"content-type", self._kind), *self._more_headers(), *prefixed_trailers(self._trailers)]
        compressed = await compress(body) if self._takes_gzip else None
        if compressed is not None:
            body = compressed
            headers.append((b"content-encoding", b"gzip"))
        if self._is_over:
            return
        self._is_over = True
        await self._finish(200, headers, body)

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with an error, unless it has ended."""
        if self._is_over:
            return
        self._is_over = True
        trailers = (*self._trailers, *trailers)
        headers = [(b"content-type", b"application/json"), *self._more_headers(), *prefixed_trailers(trailers)]
        await self._finish(http_status(code), headers, error_body(code, details, trailers))

    def _more_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ()


class ConnectGetContext(ConnectContext):
    """A unary call by GET: the message is in the query."""

    __slots__ = ("_query",)

    def __init__(self, scope: Mapping[str, Any], *parts: Any) -> None:
        text = scope.get("query_string", b"").decode("latin-1")
        self._query = dict(parse_qsl(text, keep_blank_values=True, encoding="latin-1"))
        super().__init__(scope, *parts)
        self._kind = b"application/" + self._query.get("encoding", "").encode("latin-1")

    def _find_problem(self) -> InvalidRequestError | NotImplementedFieldError | FrameError | None:
        query = self._query
        if query.get("connect", "v1") != "v1":
            return FrameError(Code.INVALID_ARGUMENT, "the parameter connect must be v1")
        if query.get("encoding") not in {"json", "proto"}:
            return FrameError(Code.INVALID_ARGUMENT, "the parameter encoding must be json or proto")
        if "message" not in query:
            return FrameError(Code.INVALID_ARGUMENT, "the parameter message is missing")
        return super()._find_problem()

    @property
    def _encoding(self) -> str:
        return self._query.get("compression") or IDENTITY

    async def read_only(self) -> Any:
        """Read the message from the query; raises as `ConnectContext.read_only`."""
        await self._read_all(self._limit)  # of a GET it is empty, but pyvoy tells so only when asked
        data = self._query["message"].encode("latin-1")
        if self._query.get("base64") == "1":
            try:
                data = base64.b64decode(data + b"=" * (-len(data) % 4), b"-_", validate=True)
            except binascii.Error as error:
                raise FrameError(Code.INVALID_ARGUMENT, "the parameter message is not base64url") from error
        return await self._decode(await inflate(data, self._encoding, self._limit))

    def _more_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return (_NO_STORE,)


def _unknown_encoding(encoding: str) -> NotImplementedFieldError:
    return NotImplementedFieldError(f"the encoding {encoding[:40]!r}", f"is not supported; send {', '.join(ENCODINGS)}")
