"""An event loop that takes all wake-ups of grpcio in one turn.

grpcio has a thread that waits for the events of all calls, and writes a byte to a socket for each. The loop reads one
byte a turn, and handles all events that are there: of ten events that come together, nine turns have nothing to do but
to read a byte, with two calls of the system each. Here a turn reads all bytes.

That loses no event: each was put in line before its byte was written, so that whoever reads the byte finds it, or it
has been handled already. What is looked at here is how grpcio waits (`completion_queue.pyx.pxi`), which a later version
may do in another way: the loop is then as it was.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["WakeUps", "reading_wake_ups_at_once"]

_AT_ONCE = 1 << 16
"""Bytes that are read in one go; a socket holds far fewer of grpcio's, each of which is a packet of its own."""
_WAITS = "PollerCompletionQueue"
"""The class of grpcio whose method the loop calls for each byte."""


class WakeUps(socket.socket):
    """The socket that grpcio's bytes are read from."""

    __slots__ = ()

    def recv(self, _size: int, flags: int = 0, /) -> bytes:
        """Read all bytes that are there."""
        return super().recv(_AT_ONCE, flags)


def reading_wake_ups_at_once(kind: Any) -> Callable[[], asyncio.AbstractEventLoop]:
    """Give a class of event loops like this one, which reads all of grpcio's bytes in one go."""

    class Loop(kind):  # type: ignore[misc]  # whatever class of loops this is
        """That loop."""

        def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
            # It is one socket for all loops of a process: another may have changed its class.
            if type(fd) in (socket.socket, WakeUps) and _is_grpcio(callback):
                fd.__class__ = WakeUps
            super().add_reader(fd, callback, *args)

    return Loop


def _is_grpcio(callback: Any) -> bool:
    """Whether this is what grpcio wants to be called when bytes have come."""
    owner = getattr(getattr(callback, "func", None), "__self__", None)
    return type(owner).__name__ == _WAITS
