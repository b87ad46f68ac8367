"""The channel between a door and the engine: a Unix socket on which each side sends what it has once a turn.

A message is one tuple. All that a side has to send at the end of a turn of its event loop becomes one frame, and wakes
the other side once: a length in four bytes, and a list of messages (`pickled`). The end of either process ends the
channel, which the other one notices at once. On the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from samplerd_server.transport.doors.pickled import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Channel", "Message"]

Message = tuple[Any, ...]
_LENGTH_BYTES = 4
_LOG = logging.getLogger("samplerd.transport")


class Channel(asyncio.Protocol):
    """One side of a channel."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        collect: Callable[[], list[Message]],
        receive: Callable[[list[Message]], None],
        lost: Callable[[], None],
    ) -> None:
        """Take what gives the messages to send, what takes those that have come, and what is told of the end."""
        self._loop = loop
        self._collect = collect
        self._receive = receive
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._is_due = False
        self.is_lost = False
        """Whether it has ended."""

    def connection_made(self, transport: Any) -> None:
        """Take the transport."""
        self._transport = transport
        self.wake()

    def wake(self) -> None:
        """Send what there is to send at the end of this turn."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        if self.is_lost or self._transport is None:
            return
        messages = self._collect()
        if messages:
            data = dumps(messages)
            self._transport.write(b"".join((len(data).to_bytes(_LENGTH_BYTES, "little"), data)))

    def data_received(self, data: bytes) -> None:
        """Take what has come; whole frames are handed on."""
        buffer = self._buffer
        if not buffer and len(data) >= _LENGTH_BYTES:
            # Nearly always one whole frame: it need not be copied together.
            end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
            if end == len(data):
                self._hand_on(memoryview(data)[_LENGTH_BYTES:])
                return
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(buffer[at : at + _LENGTH_BYTES], "little")
            if end > len(buffer):
                break
            self._hand_on(bytes(buffer[at + _LENGTH_BYTES : end]))
            at = end
        del buffer[:at]

    def _hand_on(self, frame: bytes | memoryview) -> None:
        try:
            self._receive(loads(frame))
        except Exception:  # noqa: BLE001  # what cannot be understood ends the channel, which fails what is in flight
            _LOG.exception("a frame could not be taken")
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell of the end."""
        self.is_lost = True
        self._lost()

    def close(self) -> None:
        """Send what is left to send, and end the channel."""
        if self._transport is not None:
            self._transport.close()
