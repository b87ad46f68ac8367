"""A connection of HTTP/1.1 with two bounds that uvicorn's own lacks: how many there are, and how long a request begins.

Rule 1: a connection that sends no whole header in time is closed; one that is idle between two requests has
uvicorn's own timer. Rule 2: above the most connections a further one is closed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from samplerd_server.transport.envoy.subject import subject_of

if TYPE_CHECKING:
    import asyncio

__all__ = ["MAX_CONNECTIONS", "Connection"]

MAX_CONNECTIONS = 1024
_HEADER_S = 10.0
"""Seconds in which the header of a request must have come, from its first byte or the connection's start."""


def _told(app: Any, name: str) -> Any:
    """Tell an application the subject of the client's certificate, as ASGI's extension "tls" does."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "extensions": {"tls": {"client_cert_name": name}}}, receive, send)

    return answer


class Connection(H11Protocol):
    """One connection."""

    _timer: asyncio.TimerHandle | None = None
    """Closes the connection unless a request begins."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless there are too many connections."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and (name := subject_of(tls.getpeercert())):
            self.app = _told(self.app, name)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._arm()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(_HEADER_S, self.transport.close)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
