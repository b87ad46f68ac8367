"""CORS: the origins whose web pages may call from a browser (fetch.spec.whatwg.org). By default none may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    Send = Callable[[Mapping[str, Any]], Awaitable[None]]

__all__ = ["Origins"]

_ANY = "*"
_MAX_AGE_S = b"7200"
_METHODS = b"GET, POST"
_REQUEST_HEADERS = (
    b"authorization, connect-accept-encoding, connect-content-encoding, connect-protocol-version, connect-timeout-ms, "
    b"content-encoding, content-type, grpc-accept-encoding, grpc-encoding, grpc-timeout, "
    b"inference-header-content-length, traceparent, tracestate, x-grpc-web, x-request-id, x-user-agent"
)
_REPLY_HEADERS = (
    b"connect-content-encoding, content-encoding, grpc-accept-encoding, grpc-encoding, grpc-message, grpc-status, "
    b"grpc-status-details-bin, inference-header-content-length, retry-after, trailer-grpc-retry-pushback-ms, "
    b"x-request-id"
)


class Origins:
    """The allowed origins."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self._is_any = _ANY in allowed

    def allow(self, origin: bytes | None) -> bool:
        """Whether pages of this origin may call; None: the call is not from a page of another origin."""
        return origin is not None and (self._is_any or origin in self._allowed)

    async def answer_preflight(self, origin: bytes | None, send: Send) -> None:
        """Answer a preflight request, which a browser sends before the call."""
        headers = [
            *self._headers(origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", _MAX_AGE_S),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def wrap(self, origin: bytes | None, send: Send) -> Send:
        """Add the headers that let a page of this origin read the reply, if it is allowed."""
        if not self.allow(origin):
            return send

        async def allowing(event: Mapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                headers = [
                    *event["headers"],
                    *self._headers(origin),
                    (b"access-control-expose-headers", _REPLY_HEADERS),
                ]
                event = {**event, "headers": headers}
            await send(event)

        return allowing

    def _headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        return [
            (b"access-control-allow-origin", _ANY.encode() if self._is_any else origin or b""),
            (b"vary", b"origin"),
        ]
