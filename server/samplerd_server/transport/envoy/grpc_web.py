"""gRPC-Web: the frames of gRPC, with the trailers as a last frame of the body, in binary or in base64.

Streams go both ways where the client can (HTTP/2); a browser sends one message and reads many. Source: PROTOCOL-WEB.md
of the gRPC project.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy.asgi_context import ACCEPT_ENCODING
from samplerd_server.transport.envoy.frames import COMPRESSED, FrameError, frame, trailer_headers
from samplerd_server.transport.envoy.web_context import WebContext
from samplerd_server.transport.rpc.compression import compress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KINDS", "GrpcWebContext"]

KINDS = (
    b"application/grpc-web",
    b"application/grpc-web+proto",
    b"application/grpc-web-text",
    b"application/grpc-web-text+proto",
)
"""Content types."""
_TRAILERS = 0x80
"""The flag of the frame of trailers."""
_PREFIX_BYTES = 5


class GrpcWebContext(WebContext):
    """A call of gRPC-Web."""

    __slots__ = ()

    @property
    def _is_text(self) -> bool:
        return b"-text" in self._kind

    async def read_only(self) -> Any:
        """Read the message of a call that has one; raises as `AsgiContext.read`."""
        return await self.read()

    async def _next_body(self) -> bytes:
        """Give the next bytes of the body. In base64 it is one piece: whoever needs it cannot send a stream."""
        if not self._is_text:
            return await super()._next_body()
        text = await self._read_all((self._limit + _PREFIX_BYTES) * 4 // 3 + 4)
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise FrameError(Code.INVALID_ARGUMENT, "the body is not base64") from error

    def _start_event(self) -> Mapping[str, Any]:
        return {"type": "http.response.start", "status": 200, "headers": self._headers_of_reply(), "trailers": False}

    def _headers_of_reply(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", self._kind)]
        if self._takes_gzip:
            headers.append((b"grpc-encoding", b"gzip"))
        return headers

    async def _frame(self, message: Any) -> bytes:
        return self._as_sent(await self._as_frame(message))

    async def _as_frame(self, message: Any) -> bytes:
        data = self.serialize(message) if self.serialize else message
        compressed = await compress(data) if self._takes_gzip else None
        return frame(data) if compressed is None else frame(compressed, COMPRESSED)

    def _as_sent(self, body: bytes) -> bytes:
        return base64.b64encode(body) if self._is_text else body

    async def reply(self, message: Any) -> None:
        """Send the only message and end the call with OK, in one piece."""
        await self._end(0, "", self._trailers, await self._as_frame(message))

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with a status, unless it has ended."""
        await self._end(code, details, (*self._trailers, *trailers))

    async def _end(
        self, code: int, details: str, trailers: Iterable[tuple[str, str | bytes]], message: bytes = b""
    ) -> None:
        if self._is_over:
            return
        self._is_over = True
        lines = b"".join(b"%s: %s\r\n" % header for header in trailer_headers(code, details, trailers))
        headers = self._headers_of_reply()
        if code == Code.UNIMPLEMENTED:
            headers.append(ACCEPT_ENCODING)
        await self._finish(200, headers, self._as_sent(message + frame(lines, _TRAILERS)))
