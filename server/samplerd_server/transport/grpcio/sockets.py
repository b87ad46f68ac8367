"""The sockets of a server that stops: it reads nothing more from them, and ends those that their clients do not close.

Stopped, grpcio tells every client to go (GOAWAY), and ends as CANCELLED each call that it reads afterwards: one that
was sent before its client had read that. So such a call must not be read: from the end of its connection the client
learns that nobody has, and it ends as UNAVAILABLE.

grpcio gives no socket away: they are found among the descriptors of the process, by their own address. Rule 1: Linux
has a bound on the bytes from which on a socket counts as readable (SO_RCVLOWAT), and a connection begins with that of
the socket that has accepted it. Unix sockets have none: what crosses the goodbye there is read if it comes before they
are ended. Rule 2: what was written may wait in this system, which discards it if something is there that was not read
as the connection ends, and then in the client's, which discards it once the client sends something to a connection that
has ended; so what comes is thrown away, and clients have time to read, and to close it themselves. Of a Unix socket the
system knows what has been read. Rule 3: on other systems there are no such descriptors, and nothing here has an effect.
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
    from collections.abc import Set as AbstractSet

__all__ = ["end_connections", "read_again", "silence_new", "stop_reading"]

T = TypeVar("T")
_NEVER = 1 << 30
"""More bytes than any buffer of a socket has room for."""
_SIOCOUTQ = 0x5411
"""Of ioctl: bytes that were written to a Unix socket and not read, or to another and not acknowledged."""
_POLL_S = 0.01
"""Seconds between two looks at what is left."""
_DESCRIPTORS = Path("/proc/self/fd")


def silence_new(addresses: Sequence[str]) -> None:
    """Read nothing from connections that come from now on to some addresses of this process."""
    _each(addresses, lambda own: _read_from(own, _NEVER) if _listens(own) else None)


def stop_reading(addresses: Sequence[str]) -> None:
    """Read nothing more from any connection to some addresses of this process."""
    _each(addresses, lambda own: _read_from(own, _NEVER))


def read_again(addresses: Sequence[str], peers: AbstractSet[str]) -> None:
    """Read whatever there is from the connections of some peers to some addresses of this process."""
    is_from = _are_from(peers)
    _each(addresses, lambda own: _read_from(own, 1) if is_from(own) else None)


async def end_connections(addresses: Sequence[str], leave_s: float, deliver_s: float, but: AbstractSet[str]) -> None:
    """End the connections to some addresses of this process that their clients do not close.

    One of a Unix socket ends as soon as its client has read all.

    Args:
        addresses: of this process.
        leave_s: in which clients may close them, and again once the systems of all clients have what was written.
        deliver_s: in which that has to be.
        but: peers whose connections go on; "" = any.

    """
    loop = asyncio.get_running_loop()
    goes_on = _are_from(but)

    def is_wanted(own: socket.socket) -> bool:
        return not goes_on(own) and _is_wanted(own)

    until = loop.time() + leave_s
    while any(_each(addresses, is_wanted)) and loop.time() < until:  # noqa: ASYNC110  # the system tells nobody
        await asyncio.sleep(_POLL_S)
    until, longest = loop.time() + leave_s, loop.time() + deliver_s
    while loop.time() < min(until, longest):
        left = _each(addresses, lambda own: _linger(own) if is_wanted(own) else None)
        if all(unread is None for unread in left):
            break
        if any(left):
            until = loop.time() + leave_s
        await asyncio.sleep(_POLL_S)
    _each(addresses, lambda own: None if goes_on(own) else _end(own))


def _linger(own: socket.socket) -> int | None:
    """Give how much of what was written the client's system has not; None = the client has closed the connection.

    What the client sends is thrown away: where it is left, the system discards what was written. Once all has arrived,
    the client is told that no more comes.
    """
    if own.family != socket.AF_UNIX:
        with suppress(BlockingIOError):
            while own.recv(1 << 16, socket.MSG_DONTWAIT):
                pass
            _end(own)
            return None
    unread = _unread(own)
    if not unread:
        own.shutdown(socket.SHUT_WR)
    return unread


def _are_from(peers: AbstractSet[str]) -> Callable[[socket.socket], bool]:
    """Give what tells whether a connection may be one of some peers, as `peer_of` names them; "" may be any peer.

    Those of a Unix socket have no names that tell them apart, and of others the port is enough: where two clients have
    the same, both count.
    """
    may_be_any = "" in peers
    may_be_unix = may_be_any or any(peer.startswith("unix") for peer in peers)
    ports = {peer.rpartition(":")[2] for peer in peers}

    def is_from(own: socket.socket) -> bool:
        if own.family == socket.AF_UNIX:
            return may_be_unix
        return may_be_any or (not _listens(own) and str(own.getpeername()[1]) in ports)

    return is_from


def _is_wanted(own: socket.socket) -> bool:
    """Tell whether a connection has to stay; end it if not."""
    if _listens(own):
        return False
    if own.family == socket.AF_UNIX and not _unread(own):
        _end(own)
        return False
    return True


def _unread(own: socket.socket) -> int:
    """Give the bytes that were written and that the client has not read, or its system has not, if it has another."""
    return int(struct.unpack("i", fcntl.ioctl(own.fileno(), _SIOCOUTQ, b"\0" * 4))[0])


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
