"""What the calls of browsers, curl and Connect's clients share; the protocols are in `grpc_web` and `connect`.

Each protocol is a subclass of `AsgiContext`, so that the same handlers answer its calls: only the encoding of messages,
replies and statuses differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_server.core.errors import MessageTooLargeError
from samplerd_server.transport.envoy.asgi_context import AsgiContext
from samplerd_server.transport.envoy.asgi_errors import DisconnectedError
from samplerd_server.transport.envoy.proto_json import find_method
from samplerd_server.transport.envoy.reply_body import send_body
from samplerd_server.transport.rpc.compression import takes_gzip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Headers = list[tuple[bytes, bytes]]

__all__ = ["WebContext", "content_kind"]


def content_kind(headers: Mapping[bytes, bytes]) -> bytes:
    """Give the content type without its parameters; empty if there is none."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


class WebContext(AsgiContext):
    """A call whose status is part of the body, or the status of HTTP."""

    protocol = "grpc-web"
    """What the access log calls it."""
    accept_header = b"grpc-accept-encoding"
    """Header that names the encodings that the client takes."""

    __slots__ = ("_kind", "_method", "_takes_gzip")

    def __init__(
        self,
        scope: Mapping[str, Any],
        headers: Mapping[bytes, bytes],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
        max_message_bytes: int,
    ) -> None:
        super().__init__(scope, headers, receive, send, max_message_bytes)
        self._kind = content_kind(headers)
        self._method = find_method(scope["path"])
        self._takes_gzip = takes_gzip(headers.get(self.accept_header, b"").decode("latin-1"))

    @property
    def is_streaming(self) -> bool:
        """Whether the called method is a streaming one."""
        method = self._method
        return method is not None and bool(method.client_streaming or method.server_streaming)

    async def _read_all(self, most: int) -> bytes:
        """Read the whole body.

        Raises:
            MessageTooLargeError: it has more than `most` bytes.
            DisconnectedError: the client has disconnected.

        """
        chunks: list[bytes] = []
        size = 0
        while not self._has_read_all:
            chunk = await super()._next_body()  # not that of a subclass, which may decode what this gives
            size += len(chunk)
            if size > most:
                raise MessageTooLargeError("the body", self._limit)
            chunks.append(chunk)
        if self.intake is not None:
            self.intake.keep(self, 0)
        return b"".join(chunks)

    async def write(self, message: Any) -> None:
        """Send a message; waits while the client does not read.

        Raises:
            DisconnectedError: the client has disconnected.

        """
        if self._is_over:
            raise DisconnectedError
        await self._put(b"", await self._frame(message))

    async def write_many(self, messages: list[bytes]) -> None:
        """Send messages in one go; otherwise as `write`."""
        if self._is_over:
            raise DisconnectedError
        await self._put(b"", b"".join([await self._frame(message) for message in messages]))

    async def reply(self, message: Any) -> None:
        """Send the only message and end the call with OK."""
        await self.write(message)
        await self.end(0)

    async def _frame(self, message: Any) -> bytes:
        """Give the bytes of a message on a stream."""
        raise NotImplementedError

    async def _finish(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the last part of the body, after status and headers if nothing has been sent yet."""
        start = {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}
        has_started, self._has_started = self._has_started, True
        self._is_waiting = True  # the handler is done: there is nothing to cancel
        try:
            if not has_started:
                await self._send(start)
            await send_body(self._send, b"", body, more=False)
        except OSError as error:
            error.__traceback__ = None  # see `AsgiContext.write`
