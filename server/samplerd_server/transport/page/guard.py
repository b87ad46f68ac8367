"""Which requests the page's addresses answer: those of a browser that shows this page, and no other site's.

Another site's page can send a form, and, if it can make its own name stand for this machine, anything. So the name that
a request was sent to must be an address, this machine's name or that of ``--metrics-listen``; what changes nothing
needs no more, and a draw must come as JSON and from this page, which other sites' pages cannot feign.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["Guard"]


_ETC = Path("/etc")


def names_of_machine(host: str, etc: Path) -> set[str]:
    """Give the names of this machine that its own files tell: a resolver would be asked over the network, and may hang.

    Args:
        host: its name.
        etc: the folder of `hosts`, where a line may have further names of it, and of `resolv.conf`, which names the
            domains of its network.

    """
    names = {host}
    for line in _lines(etc / "hosts"):
        _, *told = line.partition("#")[0].split() or [""]
        if host in told:
            names.update(told)
    for line in _lines(etc / "resolv.conf"):
        keyword, *domains = line.split() or [""]
        if keyword in {"search", "domain"}:
            names.update(f"{host}.{domain.strip('.')}" for domain in domains if domain.strip("."))
    return names


def _lines(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").splitlines()
    return []


class Guard:
    """Knows under which names the page may be asked for."""

    def __init__(self, listen: str) -> None:
        """Take the address of ``--metrics-listen``."""
        own = listen.rpartition(":")[0].strip("[]")
        self._names = {name.lower() for name in ("localhost", own, *names_of_machine(socket.gethostname(), _ETC))}

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
