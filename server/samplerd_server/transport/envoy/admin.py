"""Envoy's admin interface: on a Unix socket in the server's private folder, or where the settings have it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Admin"]

_ANSWER_S = 10.0
"""Far above the time that Envoy takes, which is a millisecond."""
_POLL_S = 0.02
_QUIET_POLLS = 2
"""Polls in a row that must find nothing to send: one could fall between a call's end and its answer's arrival in
Envoy."""
_HELD = r"(downstream_cx_tx_bytes_buffered|pending_send_bytes)$"
"""Envoy's gauges of bytes that are buffered until clients read them."""


class Admin:
    """Asks one Envoy. What is no coroutine blocks. Every method raises OSError if Envoy does not answer."""

    def __init__(self, folder: Path, address: str, answer_s: float = _ANSWER_S) -> None:
        """Take the server's private folder, the configured address, empty = a Unix socket, and how long to wait."""
        self._folder = folder
        self._address = address
        self._answer_s = answer_s

    @property
    def address(self) -> str:
        """The address, with the port that the system chose."""
        return (self._folder / "admin.address").read_text(encoding="utf-8").strip()

    def get(self, what: str) -> bytes:
        """Get a page."""
        return self._ask("GET", what)

    def close_listeners(self) -> None:
        """Accept no further connection, and close each that there is once it is idle.

        The next answer on a connection says so (GOAWAY), so that its client makes its next call on another one, even if
        calls in flight hold this one open for long.
        """
        # The first alone would accept connections for the whole drain time, and the second would keep those there are.
        self._ask("POST", "/drain_listeners?graceful&skip_exit")
        self._ask("POST", "/drain_listeners")

    async def wait_sent(self, give_up: float) -> bool:
        """Wait until Envoy has written all answers to its sockets; returns whether it has by then.

        Args:
            give_up: when to wait no longer, on the event loop's clock.

        """
        loop = asyncio.get_running_loop()
        quiet = 0
        while quiet < _QUIET_POLLS and loop.time() < give_up:
            await asyncio.sleep(_POLL_S)
            quiet = quiet + 1 if await loop.run_in_executor(None, self._has_sent_all) else 0
        return quiet == _QUIET_POLLS

    def _has_sent_all(self) -> bool:
        stats = json.loads(self.get(f"/stats?format=json&filter={_HELD}"))["stats"]
        return not any(own["value"] for own in stats)

    def _ask(self, method: str, what: str) -> bytes:
        connection = http.client.HTTPConnection("localhost")
        if self._address:
            host, _, port = self.address.rpartition(":")
            connection.sock = socket.create_connection((host.strip("[]"), int(port)), self._answer_s)
        else:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(self._answer_s)
            connection.sock.connect(str(self._folder / "admin"))
        try:
            connection.request(method, what)
            return connection.getresponse().read()
        except http.client.HTTPException as error:  # it ended meanwhile
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
