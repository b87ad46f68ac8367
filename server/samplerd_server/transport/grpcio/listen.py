"""Addresses: whether they are free, and how a grpcio server listens on one."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.core.errors import BindError

if TYPE_CHECKING:
    import grpc

    from samplerd_server.transport.grpcio.certificates import Certificates

__all__ = ["PINGS", "bind_port", "check_free"]

PINGS = (
    # Clients that wait between calls send pings to keep their connection alive through load balancers. Without these
    # options a server that sends none itself takes one in two hours, and cuts the connection after three
    # (too_many_pings). A client that sends more than two a second is still cut.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
)
"""Options of a server that takes the pings of its clients."""


def check_free(address: str) -> None:
    """Check that no other program listens on an address: grpcio and Envoy would share it or take it over.

    Raises:
        BindError: a program does, or the address cannot be used.

    """
    if address.startswith("unix-abstract:"):
        return
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if _is_served(path):
            raise BindError(f"cannot listen on {address}: is the path taken?")
        if not os.access(Path(path).absolute().parent, os.W_OK):
            raise BindError(f"cannot listen on {address}: is the path writable?")
        return
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, name in found:
            with socket.socket(family, kind, protocol) as probe:
                # Old connections of a server that has ended do not count; a listening socket does, whatever its
                # options.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(name)
    except OSError as error:
        hint = "is the port taken?" if error.errno == errno.EADDRINUSE else error.strerror
        raise BindError(f"cannot listen on {address}: {hint}") from error


def bind_port(server: grpc.aio.Server, address: str, certificates: Certificates) -> str:
    """Listen on an address; returns it with the port that the system chose.

    Raises:
        BindError: it cannot be listened on.
        ConfigError: a certificate or key cannot be used.

    """
    is_unix = address.startswith("unix")
    # No TLS on a Unix socket: file permissions decide who may connect, and no network lies between.
    credentials = None if is_unix else certificates.credentials()
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        port = 0
        cause: Exception | None = error
    else:
        cause = None
    if port == 0:
        hint = "is the path writable?" if is_unix else "is the port taken?"
        raise BindError(f"cannot listen on {address}: {hint}") from cause
    return address if is_unix else f"{address.rpartition(':')[0]}:{port}"


def _is_served(path: str) -> bool:
    """Whether a program listens on a Unix socket; grpcio would silently replace it."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
