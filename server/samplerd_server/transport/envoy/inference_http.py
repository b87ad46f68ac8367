"""Calls of the Open Inference Protocol over HTTP: the same RPCs as over gRPC, with JSON and binary tensors as bodies.

What the paths and bodies mean is in `transport/oip/http_*`; this is the context that reads and sends them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from samplerd_server.core.errors import Code, MessageTooLargeError, NotFoundError
from samplerd_server.transport.envoy.connect_status import http_status
from samplerd_server.transport.envoy.web_context import WebContext
from samplerd_server.transport.oip.http_reply import Reply, write_error, write_reply
from samplerd_server.transport.oip.http_request import read_request
from samplerd_server.transport.oip.http_routes import find_route
from samplerd_server.transport.rpc.compression import IDENTITY, compress, inflate
from samplerd_server.transport.rpc.request_id import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.transport.oip.http_request import BinaryOutputs

__all__ = ["InferenceContext"]

_LENGTH = b"inference-header-content-length"
_PUSHBACK = "grpc-retry-pushback-ms"
_TOO_LARGE, _WRONG_METHOD = 413, 405


class InferenceContext(WebContext):
    """One call."""

    protocol = "http"
    accept_header = b"accept-encoding"

    __slots__ = ("_allow", "_binary", "_match", "_status")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._status: int | None = None
        """The status of HTTP that is sent for an error; None = that of its code."""
        self._allow: tuple[str, ...] = ()
        self._binary: BinaryOutputs | None = None
        try:
            self._match = find_route(self._scope["method"], self._scope["path"])
        except NotFoundError as error:
            self.problem = error
        else:
            if not self._match.rpc:
                self._status, self._allow = _WRONG_METHOD, self._match.allow
                self.problem = NotFoundError(f"this path is for {' and '.join(self._allow)}")

    @property
    def path(self) -> str:
        """The path of the RPC in gRPC."""
        return self._match.path

    async def read_only(self) -> Any:
        """Read the body.

        Raises:
            SamplerdError: it is malformed, larger than the limit, or in an unknown encoding.
            DisconnectedError: the client has disconnected.

        """
        try:
            body = await self._read_all(self._limit)
            encoding = self._header(b"content-encoding").strip().lower() or IDENTITY
            body = await inflate(body, encoding, self._limit)
            message, self._binary = read_request(self._match, body, self._header(_LENGTH) or None)
        except MessageTooLargeError:
            self._status = _TOO_LARGE
            raise
        return self.deserialize(message) if self.deserialize else message

    def _header(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1")

    async def reply(self, message: Any) -> None:
        """Send the only message and end the call."""
        if self._is_over:
            return
        assert self._binary is not None, "a reply before its request was read. This is a bug."
        data = self.serialize(message) if self.serialize else message
        await self._answer(write_reply(self._match, data, self._binary), _id_headers(self._trailers))

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with a status, unless it has ended."""
        if self._is_over:
            return
        trailers = (*self._trailers, *trailers)
        headers = _id_headers(trailers)
        if self._allow:
            headers.append((b"allow", ", ".join(self._allow).encode()))
        for name, value in trailers:
            if name == _PUSHBACK:
                headers.append((b"retry-after", b"%d" % math.ceil(int(value) / 1e3)))
        if code == Code.UNAUTHENTICATED:
            headers.append((b"www-authenticate", b"Bearer"))
        await self._answer(Reply(status=self._status or http_status(code), body=write_error(details)), headers)

    async def _answer(self, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
        self._is_over = True
        body = reply.body
        headers = [(b"content-type", reply.content_type), *headers]
        if reply.header_length is not None:
            headers.append((_LENGTH, b"%d" % reply.header_length))
        if self._takes_gzip:
            headers.append((b"vary", b"accept-encoding"))
            compressed = await compress(body)
            if compressed is not None:
                headers.append((b"content-encoding", b"gzip"))
                body = compressed
        headers.append((b"content-length", b"%d" % len(body)))
        await self._finish(reply.status, headers, body)


def _id_headers(trailers: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    return [(REQUEST_ID.encode(), str(value).encode()) for name, value in trailers if name == REQUEST_ID]
