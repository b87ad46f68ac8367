"""The socket of a service manager, as systemd makes it for what it starts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self


class NotifySocket:
    """Hears what a server tells its service manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hear(self, timeout_s: float = 30.0) -> dict[str, str]:
        """Wait for a message; returns its assignments."""
        self._socket.settimeout(timeout_s)
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def hear_until(self, name: str) -> list[dict[str, str]]:
        """Wait for a message that assigns this name; returns all messages up to it."""
        heard = [self.hear()]
        while name not in heard[-1]:
            heard.append(self.hear())
        return heard

    def has_heard_all(self) -> bool:
        """Whether no message is left to hear."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(4096, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False
