"""The streams of the Connect protocol: messages in frames, and how the call ended in the last one.

Source: the specification of the Connect protocol (connectrpc.com), "Streaming-Request" and "Streaming-Response".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from samplerd_server.core.errors import NotImplementedFieldError
from samplerd_server.transport.envoy.connect import ConnectContext
from samplerd_server.transport.envoy.connect_status import end_of_stream
from samplerd_server.transport.envoy.frames import COMPRESSED, frame
from samplerd_server.transport.envoy.web_context import WebContext
from samplerd_server.transport.rpc.compression import compress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KINDS", "ConnectStreamContext"]

KINDS = (b"application/connect+json", b"application/connect+proto")
"""Content types."""
_END = 0x02
"""The flag of the frame that says how the stream ended."""


class ConnectStreamContext(ConnectContext):
    """A streaming call. It is answered with the HTTP status 200, whatever its own."""

    accept_header = b"connect-accept-encoding"
    encoding_header = b"connect-content-encoding"

    __slots__ = ()

    def _find_wrong_kind(self) -> NotImplementedFieldError | None:
        if self._method is not None and not self.is_streaming:
            return NotImplementedFieldError(self._path, "is no stream: its content type is application/json")
        return None

    async def read_only(self) -> Any:
        """Read the message of a stream that goes one way."""
        return await self.read()

    async def read(self) -> Any:
        """Read the next message, or grpc.aio.EOF; raises as `AsgiContext.read`."""
        message = await self.read_message()
        return message if message is grpc.aio.EOF else await self._decode(message)

    async def read_many(self, most: int) -> list[bytes]:  # noqa: ARG002  # JSON takes longer than the call
        """Read the next message alone; otherwise as `AsgiContext.read_many`."""
        message = await self.read()
        return [] if message is grpc.aio.EOF else [message]

    async def reply(self, message: Any) -> None:
        """Send the only message and end the call with OK."""
        await WebContext.reply(self, message)

    async def _frame(self, message: Any) -> bytes:
        data = await self._encode(message)
        compressed = await compress(data) if self._takes_gzip else None
        return frame(data) if compressed is None else frame(compressed, COMPRESSED)

    def _start_event(self) -> Mapping[str, Any]:
        return {"type": "http.response.start", "status": 200, "headers": self._headers_of_reply(), "trailers": False}

    def _headers_of_reply(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", self._kind)]
        if self._takes_gzip:
            headers.append((b"connect-content-encoding", b"gzip"))
        return headers

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the stream with a status, unless it has ended."""
        if self._is_over:
            return
        self._is_over = True
        last = end_of_stream(code, details, (*self._trailers, *trailers))
        await self._finish(200, self._headers_of_reply(), frame(last, _END))
