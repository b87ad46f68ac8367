"""Which protocol a request speaks, by its method and content type; what speaks none is refused by HTTP's own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_server.transport.envoy import connect, connect_stream, grpc_web
from samplerd_server.transport.envoy.connect import ConnectContext, ConnectGetContext, may_get, with_timeout
from samplerd_server.transport.envoy.connect_stream import ConnectStreamContext
from samplerd_server.transport.envoy.grpc_web import GrpcWebContext
from samplerd_server.transport.envoy.proto_json import find_method
from samplerd_server.transport.envoy.web_context import WebContext, content_kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Send = Callable[[Mapping[str, Any]], Awaitable[None]]

__all__ = ["refuse", "web_call"]

_CONTEXTS: dict[bytes, type[WebContext]] = {
    **dict.fromkeys(grpc_web.KINDS, GrpcWebContext),
    **dict.fromkeys(connect.KINDS, ConnectContext),
    **dict.fromkeys(connect_stream.KINDS, ConnectStreamContext),
}
"""Contexts by content type."""
_TAKEN = b", ".join((b"application/grpc", *_CONTEXTS))


def web_call(
    scope: Mapping[str, Any],
    headers: Mapping[bytes, bytes],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Send,
    max_message_bytes: int,
) -> WebContext | None:
    """Make the context of a call of gRPC-Web or Connect; None = it is neither."""
    if scope["method"] == "GET" and may_get(scope["path"]):
        return ConnectGetContext(scope, with_timeout(headers), receive, send, max_message_bytes)
    kind = _CONTEXTS.get(content_kind(headers)) if scope["method"] == "POST" else None
    if kind is None:
        return None
    timed = headers if kind is GrpcWebContext else with_timeout(headers)
    return kind(scope, timed, receive, send, max_message_bytes)


async def refuse(scope: Mapping[str, Any], send: Send) -> None:
    """Answer a request that is no call: 404, 405 or 415."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if scope["method"] == "POST":
        status, text = 415, b"POST a message: gRPC, gRPC-Web, or JSON as Connect has it\n"
        headers.append((b"accept-post", _TAKEN))
    elif find_method(scope["path"]) is None:
        status, text = 404, b"there is no such method; POST to /samplerd.v1.SamplerService/Sample, for example\n"
    else:
        status, text = 405, b"this method is not called by this method of HTTP\n"
        headers.append((b"allow", b"GET, POST" if may_get(scope["path"]) else b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
