"""The body of a reply: a long part of it is sent in pieces, between which the event loop serves others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["send_body"]

_PIECE_BYTES = 1 << 20
"""The most bytes that are given to pyvoy at once: it copies them while the event loop waits."""


async def send_body(
    send: Callable[[Mapping[str, Any]], Awaitable[None]], head: bytes, data: bytes, *, more: bool
) -> None:
    """Send the head of a part, which is short, and the rest of it; `more`: another part follows.

    Raises:
        OSError: of pyvoy: the client has disconnected.

    """
    if len(data) <= _PIECE_BYTES:
        await send({"type": "http.response.body", "body": head + data, "more_body": more})
        return
    await send({"type": "http.response.body", "body": head, "more_body": True})
    for begin in range(0, len(data), _PIECE_BYTES):
        end = begin + _PIECE_BYTES
        await asyncio.sleep(0)
        is_last = end >= len(data)
        await send({"type": "http.response.body", "body": data[begin:end], "more_body": more or not is_last})
