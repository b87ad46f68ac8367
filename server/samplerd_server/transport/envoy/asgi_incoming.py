"""The client's side of a call inside Envoy: its body, cut into messages.

Rule 1: a future of pyvoy is never cancelled: pyvoy resolves it when the call ends, and fails if it was cancelled. The
handler's task is therefore cancelled only while it does not wait for pyvoy (`is_held`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy.asgi_errors import DisconnectedError
from samplerd_server.transport.envoy.frames import COMPRESSED, FrameError, FrameReader, whole_message
from samplerd_server.transport.envoy.identified import IdentifiedCall
from samplerd_server.transport.rpc.compression import IDENTITY, inflate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from samplerd_server.transport.envoy.intake import Intake

__all__ = ["IncomingCall"]


class IncomingCall(IdentifiedCall):
    """A call of which messages are read."""

    encoding_header = b"grpc-encoding"
    """Header that names the encoding of compressed messages."""

    __slots__ = (
        "_has_read_all",
        "_is_waiting",
        "_limit",
        "_reader",
        "_reading",
        "_receive",
        "deserialize",
        "intake",
        "is_gone",
        "on_read_all",
    )

    def __init__(
        self,
        scope: Mapping[str, Any],
        headers: Mapping[bytes, bytes],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        max_message_bytes: int,
    ) -> None:
        super().__init__(scope, headers)
        self._receive = receive
        self._limit = max_message_bytes
        self._reader: FrameReader | None = None
        self.intake: Intake | None = None
        self.deserialize: Callable[[bytes], Any] | None = None
        self._has_read_all = False
        self._is_waiting = False
        self._reading: asyncio.Task[Any] | None = None
        self.is_gone = False
        """Whether the client is known to have disconnected."""
        self.on_read_all: Callable[[], None] | None = None
        """Called once nothing more will be read: from then on `poll` may be called."""

    def is_held(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a task waits for the client, in `read` or `write`; the end of the call then ends the wait."""
        return self._is_waiting or (task is not None and self._reading is task)

    async def read_only(self) -> Any:  # the type that the handler's deserializer gives
        """Read the message of a call that has one.

        Raises:
            SamplerdError: the framing is malformed, or the message is over the limit or wrongly compressed.
            DisconnectedError: the client has disconnected.

        """
        self._is_waiting = True  # as `_next_body`, but faster: the waiting task is known to be the call's own
        event = await self._receive()
        self._is_waiting = False
        body = self._body_of(event)
        message = whole_message(body, self._limit)
        if message is None:
            self._count(len(body))
            self._feed(body)
            return await self.read()
        return self.deserialize(message) if self.deserialize else message

    async def read(self) -> Any:  # the type that the handler's deserializer gives
        """Read the next message, or grpc.aio.EOF.

        Raises:
            SamplerdError: the framing is malformed, or the message is over the limit or wrongly compressed.
            DisconnectedError: the client has disconnected.

        """
        message = await self.read_message()
        return self.deserialize(message) if self.deserialize and message is not grpc.aio.EOF else message

    async def read_message(self) -> Any:
        """Read the bytes of the next message, or grpc.aio.EOF; otherwise as `read`."""
        reader = self._reader or self._feed(b"")
        while (found := reader.next_frame()) is None:
            if self._has_read_all:
                reader.check_ended()
                if self.on_read_all is not None:
                    self.on_read_all()
                return grpc.aio.EOF
            reader.feed(await self._next_body())
        flags, message = found
        if self.intake is not None:
            self.intake.keep(self, reader.size)
        return await self._inflate(flags, message) if flags else message

    async def read_many(self, most: int) -> list[bytes]:
        """Read the next message, and those that have come with it: at most `most`; none = there are no more.

        For handlers without a deserializer. Raises as `read`.
        """
        message = await self.read()
        if message is grpc.aio.EOF:
            return []
        messages, reader = [message], self._reader
        assert reader is not None, "a message that nothing read. This is a bug."
        while len(messages) < most and (plain := reader.next_plain()) is not None:
            messages.append(plain)
        if self.intake is not None:
            self.intake.keep(self, reader.size)
        return messages

    async def _inflate(self, flags: int, message: bytes) -> bytes:
        """Inflate the message of a frame with flags; `COMPRESSED` is the only one that a client may set."""
        encoding = self._headers.get(self.encoding_header, b"").decode("latin-1")
        if flags != COMPRESSED or encoding in {"", IDENTITY}:
            name = self.encoding_header.decode()
            raise FrameError(Code.INTERNAL, f"a message with the flags {flags:#x}, and {name} is {encoding!r}")
        return await inflate(message, encoding, self._limit)

    def _feed(self, body: bytes) -> FrameReader:
        if self._reader is None:
            self._reader = FrameReader(self._limit)
        self._reader.feed(body)
        return self._reader

    async def _next_body(self) -> bytes:
        self._reading = asyncio.current_task()
        try:
            event = await self._receive()
        finally:
            self._reading = None
        body = self._body_of(event)
        self._count(len(body))
        return body

    def _count(self, size: int) -> None:
        if self.intake is not None:
            self.intake.add(self, size)

    def _body_of(self, event: Mapping[str, Any]) -> bytes:
        if event["type"] != "http.request":
            self.is_gone = True
            raise DisconnectedError
        self._has_read_all = not event.get("more_body", False)
        body: bytes = event.get("body", b"")
        return body

    async def messages(self) -> AsyncIterator[Any]:
        """Read messages until the client has sent all."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def poll(self) -> asyncio.Future[Mapping[str, Any]]:
        """Ask pyvoy for the next event of the client. Only once nothing more will be read."""
        return asyncio.ensure_future(self._receive())
