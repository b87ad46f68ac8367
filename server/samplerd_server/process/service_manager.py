"""What the service manager that started this process is told: systemd's protocol of notifications (sd_notify).

systemd names a Unix datagram socket in ``NOTIFY_SOCKET``, and in ``WATCHDOG_USEC`` the longest time that may pass
between two signs of life. Rule 1: only the process that systemd started speaks, so the variables are removed once they
are read, and no worker or Envoy sees them. Rule 2: a service manager that does not listen is ignored. Any thread may
call this.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from samplerd_server.config.environment import take_service_manager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ServiceManager"]

_SEND_S = 1.0
"""Longest time to wait while the service manager has messages of others to read first."""
_BEATS = 4
"""Signs of life within the time that may pass between two: a busy machine may delay one of them."""


class ServiceManager:
    """The socket of the service manager.

    Args:
        address: path of the socket, with a leading ``@`` for Linux's abstract namespace; empty = there is none.
        watchdog_s: seconds within which it expects a sign of life; 0 = it expects none.

    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.beat_s = watchdog_s / _BEATS if address else 0.0
        """Seconds between two signs of life; 0 = none is expected."""

    @classmethod
    def of_environment(cls) -> ServiceManager:
        """Give the one that started this process."""
        return cls(*take_service_manager())

    def ready(self, status: str) -> None:
        """Say that requests are answered."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in a line what the process does."""
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """Say that the process has begun to end."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Give a sign of life, if one is expected."""
        if self.beat_s:
            self._send("WATCHDOG=1")

    async def beat(self, is_alive: Callable[[], Awaitable[bool]]) -> None:
        """Give signs of life whenever `is_alive` says so, until cancelled; returns at once if none is expected."""
        while self.beat_s:
            if await is_alive():
                self.alive()
            await asyncio.sleep(self.beat_s)

    def _send(self, *assignments: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_S)
                sender.sendto("\n".join(assignments).encode(), self._address)
