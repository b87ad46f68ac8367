"""Which requests the page's addresses answer: those of a browser that shows this page, and no other site's.

Another site's page can send a form, and, if it can make its own name stand for this machine, anything. So the name that
a request was sent to must be an address, this machine's name or that of ``--metrics-listen``; what changes nothing
needs no more, and a draw must come as JSON and from this page, which other sites' pages cannot feign.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["Guard"]


class Guard:
    """Knows under which names the page may be asked for."""

    def __init__(self, listen: str) -> None:
        """Take the address of ``--metrics-listen``."""
        own = listen.rpartition(":")[0].strip("[]")
        self._names = {name.lower() for name in ("localhost", own, socket.gethostname(), socket.getfqdn())}

    def complaint(self, environment: WSGIEnvironment) -> str:
        """Say why a request is not answered; empty if it is."""
        host = environment.get("HTTP_HOST", "")
        if not self._is_own(host):
            return f"This is not served as {host[:100]!r}: use the machine's address, or the name in --metrics-listen."
        if environment["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return ""
        if environment.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
            return "A draw is asked for as application/json."
        origin = environment.get("HTTP_ORIGIN")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "Only this page may ask for a draw."
        return ""

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True
