"""A gRPC servicer context over one ASGI scope: what the transport ``envoy`` gives to handlers written for grpc.aio."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from samplerd_server.transport.frames import FrameReader, frame, parse_timeout, trailer_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

__all__ = ["Aborted", "AsgiContext", "DisconnectedError"]

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}


class Aborted(Exception):  # noqa: N818  # named as grpcio names its own
    """The handler ended its call with a status."""

    def __init__(self, code: int, details: str, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailers = tuple(trailers)


class DisconnectedError(Exception):
    """Expected: the client has gone."""


class AsgiContext:
    """One call. Handlers use the part of grpc.aio.ServicerContext that is here."""

    __slots__ = (
        "_deadline",
        "_deserialize",
        "_has_ended",
        "_has_started",
        "_headers",
        "_reader",
        "_receive",
        "_scope",
        "_send",
        "_serialize",
        "_trailers",
        "on_read",
    )

    def __init__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
        *,
        max_message_bytes: int,
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._reader = FrameReader(max_message_bytes)
        self._deserialize = deserialize
        self._serialize = serialize
        self.on_read: Callable[[], None] = _nothing
        """Called once nothing more will be read: from then on somebody else may wait for the client to go."""
        self._has_ended = False
        self._has_started = False
        self._trailers: tuple[tuple[str, str | bytes], ...] = ()
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        timeout = self._headers.get(b"grpc-timeout")
        self._deadline = None if timeout is None else time.monotonic() + parse_timeout(timeout)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, or None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def peer(self) -> str:
        """Name the connection, as grpcio does."""
        client = self._scope.get("client")
        if not client:
            return "unix:"
        return f"{'ipv6' if ':' in client[0] else 'ipv4'}:{client[0]}:{client[1]}"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Give the client's metadata."""
        return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers.items())

    def set_trailing_metadata(self, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        """Set metadata to end the call with."""
        self._trailers = tuple(trailers)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """End the call with a status.

        Raises:
            Aborted: always.

        """
        raise Aborted(code.value[0], details, trailing_metadata)

    async def read(self) -> Any:  # what the handler's deserializer makes
        """Read the next message, or grpc.aio.EOF.

        Raises:
            FrameError: the framing or the limit is broken.
            DisconnectedError: the client has gone.

        """
        while True:
            message = self._reader.next_message()
            if message is not None:
                return self._deserialize(message) if self._deserialize else message
            if self._has_ended:
                self._reader.check_ended()
                self.on_read()
                return grpc.aio.EOF
            event = await self._next_event()
            if event["type"] != "http.request":
                raise DisconnectedError
            self._reader.feed(event.get("body", b""))
            self._has_ended = not event.get("more_body", False)

    def _next_event(self) -> Awaitable[Mapping[str, Any]]:
        if self._deadline is None:
            return self._receive()
        # A deadline may cancel this read, but must not cancel pyvoy's own future, which it will want to resolve.
        return asyncio.shield(asyncio.ensure_future(self._receive()))

    async def messages(self) -> AsyncIterator[Any]:
        """Read messages until the client has sent all."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def write(self, message: Any) -> None:  # what the handler's serializer takes
        """Send a message; waits while the client does not read."""
        if not self._has_started:
            self._has_started = True
            await self._send(_START)
        data = self._serialize(message) if self._serialize else message
        await self._send({"type": "http.response.body", "body": frame(data), "more_body": True})

    async def reply(self, message: Any) -> None:  # what the handler's serializer takes
        """Send the only message and end the call well."""
        self._has_started = True
        data = self._serialize(message) if self._serialize else message
        await self._send(_START)
        await self._send({"type": "http.response.body", "body": frame(data), "more_body": False})
        await self._send({"type": "http.response.trailers", "headers": trailer_headers(0, "", self._trailers)})

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with a status."""
        if not self._has_started:
            self._has_started = True
            await self._send(_START)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        headers = trailer_headers(code, details, (*self._trailers, *trailers))
        await self._send({"type": "http.response.trailers", "headers": headers})

    async def wait_disconnect(self) -> None:
        """Wait until the client has gone. Only once nothing more will be read."""
        while (await self._receive())["type"] == "http.request":
            pass


def _nothing() -> None:
    pass
