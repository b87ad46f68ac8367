"""The body of a reply: a long part of it is sent in pieces, between which the event loop serves others.

A handler is done before its reply is sent, so that a drain, which waits for handlers, waits for `Replies` too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Replies", "send_body"]

_PIECE_BYTES = 1 << 20
"""The most bytes that are given to pyvoy at once: it copies them while the event loop waits."""


class Replies:
    """Counts the replies that are being sent."""

    def __init__(self) -> None:
        self._count = 0
        self._all_sent: asyncio.Event | None = None
        """Set when none is left. It exists only while somebody waits for it."""

    def begin(self) -> None:
        """Count a reply, before its handler is seen to be done."""
        self._count += 1

    def end(self) -> None:
        """Count a reply that pyvoy has taken, or whose client has gone."""
        self._count -= 1
        if self._all_sent is not None and self._count == 0:
            self._all_sent.set()
            self._all_sent = None

    async def wait_sent(self) -> None:
        """Wait until none is being sent."""
        if self._count == 0:
            return
        if self._all_sent is None:
            self._all_sent = asyncio.Event()
        await self._all_sent.wait()


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
