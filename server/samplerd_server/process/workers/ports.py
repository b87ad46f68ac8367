"""The addresses that workers share: checked to be free, and reserved for as long as the supervisor lives.

Every worker listens with SO_REUSEPORT, and the kernel gives each connection to one of them. That option alone would let
two servers share a port by accident. So the supervisor binds each address first, without the option, which fails if
anybody listens there; then it sets the option on its own socket. It never listens with it. From then on nobody but
processes of the same user that ask for sharing can bind the address, even while no worker serves.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PortError", "Ports"]

_Place = tuple[int, tuple[Any, ...]]
"""An address family, and an address of it as `socket.bind` takes it."""
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_ATTEMPTS = 16
"""A port that the system chose on one address of a host may be taken on another."""


class PortError(Exception):
    """Expected: an address cannot be listened on."""


class Ports:
    """The reserved addresses."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def hold(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Reserve addresses (``host:port``, ``[v6]:port``); returns them with the ports that the system chose for 0.

        Raises:
            PortError: an address is taken or is none of this machine's.

        """
        return tuple(map(self._hold, addresses))

    def _hold(self, address: str) -> str:
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise PortError(f"cannot listen on {address}: {error.strerror}") from error
        places = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
        failed: OSError | None = None
        for _ in range(_ATTEMPTS if port == "0" else 1):
            held, failed = _hold_all(places)
            if failed is None:
                self._sockets += held
                return f"{host}:{held[0].getsockname()[1]}"
        assert failed is not None, "a host without addresses. This is a bug."
        why = "is the port taken?" if failed.errno == errno.EADDRINUSE else failed.strerror
        raise PortError(f"cannot listen on {address}: {why}") from failed

    def close(self) -> None:
        """Release them."""
        for one in self._sockets:
            one.close()
        self._sockets.clear()


def _hold_all(places: Sequence[_Place]) -> tuple[list[socket.socket], OSError | None]:
    """Bind every address of a host to one port; returns the sockets, or none and the error."""
    held: list[socket.socket] = []
    failed: OSError | None = None
    for family, where in places:
        port = where[1] or (held[0].getsockname()[1] if held else 0)
        try:
            held.append(_bind(family, (where[0], port, *where[2:])))
        except OSError as error:
            failed = error
            if error.errno not in _ABSENT:
                break
    # A family that this machine lacks does not matter where there is another.
    if held and (failed is None or failed.errno in _ABSENT):
        return held, None
    for one in held:
        one.close()
    return [], failed


def _bind(family: int, where: tuple[Any, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a server that has ended do not keep the port.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, where[0] != "::")
        one.bind(where)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # With this still set, another server could take the port while no worker listens.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        one.close()
        raise
    return one
