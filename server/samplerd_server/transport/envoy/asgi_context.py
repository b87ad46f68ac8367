"""The servicer context of a call inside Envoy: the interface of grpc.aio's context over one ASGI scope.

Rule 1: a future of pyvoy is never cancelled: pyvoy resolves it when the call ends, and fails if it was cancelled. The
handler's task is therefore cancelled only while it does not wait for pyvoy (`is_held`). Rule 2: as in grpc.aio, a
handler sees a disconnected client as a cancellation.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from samplerd_server.core.errors import Code, SamplerdError
from samplerd_server.transport.envoy.asgi_errors import Aborted, DisconnectedError
from samplerd_server.transport.envoy.frames import (
    COMPRESSED,
    FrameError,
    FrameReader,
    parse_timeout,
    prefix,
    trailer_headers,
    whole_message,
)
from samplerd_server.transport.envoy.identified import IdentifiedCall
from samplerd_server.transport.envoy.reply_body import send_body
from samplerd_server.transport.rpc.compression import ENCODINGS, IDENTITY, inflate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from samplerd_server.transport.envoy.intake import Intake

__all__ = ["ACCEPT_ENCODING", "AsgiContext"]

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_START = {"type": "http.response.start", "status": 200, "headers": [_CONTENT_TYPE], "trailers": True}
_NOTHING = {"type": "http.response.body", "body": b"", "more_body": False}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
ACCEPT_ENCODING = (b"grpc-accept-encoding", ",".join(ENCODINGS).encode())
"""Tells what is taken: sent where a message was refused, perhaps for its encoding."""


class AsgiContext(IdentifiedCall):
    """One call, with the part of grpc.aio.ServicerContext that the handlers use."""

    encoding_header = b"grpc-encoding"
    """Header that names the encoding of compressed messages."""

    __slots__ = (
        "_deadline",
        "_has_read_all",
        "_has_started",
        "_is_over",
        "_is_waiting",
        "_limit",
        "_reader",
        "_reading",
        "_receive",
        "_send",
        "_trailers",
        "deserialize",
        "intake",
        "is_gone",
        "on_read_all",
        "problem",
        "serialize",
    )

    def __init__(
        self,
        scope: Mapping[str, Any],
        headers: Mapping[bytes, bytes],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
        max_message_bytes: int,
    ) -> None:
        super().__init__(scope, headers)
        self._receive = receive
        self._send = send
        self._limit = max_message_bytes
        self._reader: FrameReader | None = None
        self.intake: Intake | None = None
        self.deserialize: Callable[[bytes], Any] | None = None
        self.serialize: Callable[[Any], bytes] | None = None
        self._has_read_all = False
        self._has_started = False
        self._is_over = False
        self._is_waiting = False
        self._reading: asyncio.Task[Any] | None = None
        self.is_gone = False
        """Whether the client is known to have disconnected."""
        self.on_read_all: Callable[[], None] | None = None
        """Called once nothing more will be read: from then on `poll` may be called."""
        self._trailers: tuple[tuple[str, str | bytes], ...] = ()
        self.problem: SamplerdError | None = None
        """Why the call must be refused before its message is read: its headers are malformed."""
        self._deadline: float | None = None
        timeout = headers.get(b"grpc-timeout")
        if timeout is not None:
            try:
                self._deadline = self.arrival.time + parse_timeout(timeout)
            except FrameError as error:
                self.problem = error

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, or None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def peer(self) -> str:
        """Give the client's address in the form of grpcio."""
        client = self._scope.get("client")
        if not client:
            return "unix:" + self._headers.get(b"x-samplerd-connection", b"").decode("latin-1")
        return f"{'ipv6' if ':' in client[0] else 'ipv4'}:{client[0]}:{client[1]}"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Give the client's metadata: the last value of each name, binary values in base64."""
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers.items())

    def set_trailing_metadata(self, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        """Set the metadata that is sent at the end of the call."""
        self._trailers = tuple(trailers)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """End the call with a status.

        Raises:
            Aborted: always.

        """
        raise Aborted(code.value[0], details, trailing_metadata)

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

    async def write(self, message: Any) -> None:  # what the handler's serializer takes
        """Send a message; waits while the client does not read.

        Raises:
            DisconnectedError: the client has disconnected.

        """
        if self._is_over:
            raise DisconnectedError
        data = self.serialize(message) if self.serialize else message
        await self._put(prefix(len(data)), data)

    def _start_event(self) -> Mapping[str, Any]:
        return _START

    async def _put(self, head: bytes, data: bytes) -> None:
        """Send a part of the body, after status and headers if nothing has been sent yet."""
        self._is_waiting = True
        try:
            if not self._has_started:
                self._has_started = True
                await self._send(self._start_event())
            await send_body(self._send, head, data, more=True)
        except OSError as error:
            # pyvoy raises the same exception object each time; its traceback would grow with every call.
            error.__traceback__ = None
            self.is_gone = True
            raise DisconnectedError from None
        finally:
            self._is_waiting = False

    async def reply(self, message: Any) -> None:  # what the handler's serializer takes
        """Send the only message and end the call with OK."""
        if self._is_over:
            return
        self._is_over = True
        data = self.serialize(message) if self.serialize else message
        trailers: Mapping[str, Any] = _OK
        if self._trailers:
            trailers = {"type": "http.response.trailers", "headers": trailer_headers(0, "", self._trailers)}
        send = self._send
        self._is_waiting = True  # the handler is done: there is nothing to cancel
        try:
            await send(_START)
            await send_body(self._send, prefix(len(data)), data, more=False)
            await send(trailers)
        except OSError as error:
            error.__traceback__ = None  # pyvoy raises one exception object again and again

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with a status, unless it has ended."""
        if self._is_over:
            return
        self._is_over = True
        headers = trailer_headers(code, details, (*self._trailers, *trailers))
        if code == Code.UNIMPLEMENTED:
            headers.append(ACCEPT_ENCODING)
        send = self._send
        try:
            if self._has_started:
                await send(_NOTHING)
                await send({"type": "http.response.trailers", "headers": headers})
            else:  # gRPC's "Trailers-Only": without a message, the status is in the headers
                await send({**_START, "headers": [_CONTENT_TYPE, *headers], "trailers": False})
                await send(_NOTHING)
        except OSError as error:
            error.__traceback__ = None  # pyvoy raises one exception object again and again
