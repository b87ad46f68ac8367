"""The same within Envoy: an ASGI application that reads a call to its end and answers with fixed bytes.

It is what the transport ``envoy`` would take at least, as `empty_server` is for ``grpcio``: Envoy as samplerd
configures it, pyvoy, one event loop, and nothing done.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks.load import frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["REPLY_VARIABLE", "application"]

REPLY_VARIABLE = "SAMPLERD_BENCH_EMPTY_REPLY"
"""Holds the reply's bytes in hexadecimal."""
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}
_REPLY = {"type": "http.response.body", "body": frame(bytes.fromhex(os.environ.get(REPLY_VARIABLE, "")))}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}


async def application(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Callable[[Mapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer one call, or live through the lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body", False):
        pass
    await send(_START)
    await send(_REPLY)
    await send(_OK)
