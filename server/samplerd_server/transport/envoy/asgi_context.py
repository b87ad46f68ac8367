"""The servicer context of a call inside Envoy: the interface of grpc.aio's context over one ASGI scope.

Rule 1: a future of pyvoy is never cancelled: pyvoy resolves it when the call ends, and fails if it was cancelled. The
handler's task is therefore cancelled only while it does not wait for pyvoy (`is_held`). Rule 2: as in grpc.aio, a
handler sees a disconnected client as a cancellation.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from samplerd_server.core.errors import Code, SamplerdError
from samplerd_server.transport.envoy.asgi_errors import Aborted, DisconnectedError
from samplerd_server.transport.envoy.asgi_incoming import IncomingCall
from samplerd_server.transport.envoy.frames import FrameError, parse_timeout, prefix, trailer_headers
from samplerd_server.transport.envoy.reply_body import send_body
from samplerd_server.transport.rpc.compression import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    import grpc


__all__ = ["ACCEPT_ENCODING", "AsgiContext"]

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_START = {"type": "http.response.start", "status": 200, "headers": [_CONTENT_TYPE], "trailers": True}
_NOTHING = {"type": "http.response.body", "body": b"", "more_body": False}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
ACCEPT_ENCODING = (b"grpc-accept-encoding", ",".join(ENCODINGS).encode())
"""Tells what is taken: sent where a message was refused, perhaps for its encoding."""


class AsgiContext(IncomingCall):
    """One call, with the part of grpc.aio.ServicerContext that the handlers use."""

    __slots__ = (
        "_deadline",
        "_has_started",
        "_is_over",
        "_send",
        "_trailers",
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
        super().__init__(scope, headers, receive, max_message_bytes)
        self._send = send
        self.serialize: Callable[[Any], bytes] | None = None
        self._has_started = False
        self._is_over = False
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

    async def write(self, message: Any) -> None:  # what the handler's serializer takes
        """Send a message; waits while the client does not read.

        Raises:
            DisconnectedError: the client has disconnected.

        """
        if self._is_over:
            raise DisconnectedError
        data = self.serialize(message) if self.serialize else message
        await self._put(prefix(len(data)), data)

    async def write_many(self, messages: list[bytes]) -> None:
        """Send messages in one go; otherwise as `write`. For handlers without a serializer."""
        if self._is_over:
            raise DisconnectedError
        await self._put(b"", b"".join([part for message in messages for part in (prefix(len(message)), message)]))

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
