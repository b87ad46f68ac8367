"""The event loop of this process: uvloop's, which takes all wake-ups of grpcio in one turn.

grpcio has a thread that waits for the events of all calls, and writes a byte to a socket for each. The loop reads one
byte a turn, and handles all events that are there: of ten events that come together, nine turns have nothing to do but
to read a byte, with two calls of the system each. Here a turn reads all bytes.

That loses no event: each was put in line before its byte was written, so that whoever reads the byte finds it, or it
has been handled already. What is looked at here is how grpcio waits (`completion_queue.pyx.pxi`), which a later version
may do in another way: the loop is then uvloop's.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from samplerd_server.core.named_thread import helpers

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WakeUps", "new_event_loop"]

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


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make uvloop's loop, which serves one and a half times as many empty calls per second, or asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        loop = asyncio.new_event_loop()
    else:

        class Loop(uvloop.Loop):
            """uvloop's loop."""

            def add_reader(  # type: ignore[override]  # as uvloop declares it
                self, fd: Any, callback: Callable[..., Any], *args: Any
            ) -> None:
                if type(fd) is socket.socket and _is_grpcio(callback):
                    fd.__class__ = WakeUps
                super().add_reader(fd, callback, *args)

        loop = Loop()
    loop.set_default_executor(helpers())
    return loop


def _is_grpcio(callback: Any) -> bool:
    """Whether this is what grpcio wants to be called when bytes have come."""
    owner = getattr(getattr(callback, "func", None), "__self__", None)
    return type(owner).__name__ == _WAITS
