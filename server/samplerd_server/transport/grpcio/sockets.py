"""The sockets of a server that stops: it reads nothing more from them, and ends those that their clients do not close.

Stopped, grpcio tells every client to go (GOAWAY), and ends as CANCELLED each call that it reads afterwards: one that
was sent before its client had read that. So such a call must not be read: from the end of its connection the client
learns that nobody has, and it ends as UNAVAILABLE.

grpcio gives no socket away: they are found among the descriptors of the process, by their own address. Rule 1: Linux
has a bound on the bytes from which on a socket counts as readable (SO_RCVLOWAT), and a connection begins with that of
the socket that has accepted it. Unix sockets have none: what crosses the goodbye there is read if it comes before they
are ended. Rule 2: what was written may wait in the client's system, which discards it once the client sends something
to a connection that has ended; so clients have time to read, and to close it themselves. Of a Unix socket the system
knows what has been read. Rule 3: on other systems there are no such descriptors, and nothing here has an effect.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["end_connections", "read_again", "silence_new", "stop_reading"]

T = TypeVar("T")
_NEVER = 1 << 30
"""More bytes than any buffer of a socket has room for."""
_SIOCOUTQ = 0x5411
"""Of ioctl: bytes that were written to a Unix socket and have not been read."""
_POLL_S = 0.01
"""Seconds between two looks at what is left."""
_DESCRIPTORS = Path("/proc/self/fd")


def silence_new(addresses: Sequence[str]) -> None:
    """Read nothing from connections that come from now on to some addresses of this process."""
    _each(addresses, lambda own: _read_from(own, _NEVER) if _listens(own) else None)


def stop_reading(addresses: Sequence[str]) -> None:
    """Read nothing more from any connection to some addresses of this process."""
    _each(addresses, lambda own: _read_from(own, _NEVER))


def read_again(addresses: Sequence[str]) -> None:
    """Read whatever there is from connections to some addresses of this process."""
    _each(addresses, lambda own: _read_from(own, 1))


async def end_connections(addresses: Sequence[str], timeout_s: float) -> None:
    """End the connections to some addresses of this process that their clients have not closed after so many seconds.

    One of a Unix socket ends as soon as its client has read all.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while any(_each(addresses, _is_wanted)) and loop.time() < end:  # noqa: ASYNC110  # the system tells nobody
        await asyncio.sleep(_POLL_S)
    _each(addresses, _end)


def _is_wanted(own: socket.socket) -> bool:
    """Tell whether a connection has to stay; end it if not."""
    if _listens(own):
        return False
    if own.family == socket.AF_UNIX and not struct.unpack("i", fcntl.ioctl(own.fileno(), _SIOCOUTQ, b"\0" * 4))[0]:
        _end(own)
        return False
    return True


def _end(own: socket.socket) -> None:
    if not _listens(own):
        own.shutdown(socket.SHUT_RDWR)


def _read_from(own: socket.socket, size: int) -> None:
    """Let a socket count as readable from so many bytes on."""
    if own.family != socket.AF_UNIX:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def _listens(own: socket.socket) -> bool:
    return bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _each(addresses: Sequence[str], act: Callable[[socket.socket], T]) -> list[T]:
    """Act on the sockets of this process that listen on some addresses, or are connected to them."""
    paths = {address.removeprefix("unix:") for address in addresses if address.startswith("unix:")}
    names = {f"\0{address.removeprefix('unix-abstract:')}" for address in addresses if address.startswith("unix-abs")}
    ports = {int(address.rpartition(":")[2]) for address in addresses if not address.startswith("unix")}
    found: list[T] = []
    try:
        numbers = [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208  # names only, thousands of them
    except OSError:  # not Linux
        return found
    for number in numbers:
        with suppress(OSError):  # it has been closed, by this process or by its client
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                own = socket.socket(fileno=number)
                try:
                    if _is_of(own, paths | names, ports):
                        found.append(act(own))
                finally:
                    own.detach()
    return found


def _is_of(own: socket.socket, names: set[str], ports: set[int]) -> bool:
    name = own.getsockname()
    if own.family == socket.AF_UNIX:
        return (name.decode() if isinstance(name, bytes) else name) in names
    return own.family in {socket.AF_INET, socket.AF_INET6} and name[1] in ports
