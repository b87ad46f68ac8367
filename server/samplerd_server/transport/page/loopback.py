"""The channel from the page to this server's own gRPC address."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from samplerd_server.config import SecurityConfig

__all__ = ["open_channel"]

_CONNECT_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # what such a server is asked at
_OPTIONS = (
    # However the machine reaches other hosts, this one is here.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


def open_channel(address: str, security: SecurityConfig) -> grpc.Channel:
    """Open a channel to an address that this server listens on.

    With TLS the server is known by its own certificate, which it shows as a client too where it asks for one.

    Raises:
        OSError: the certificate cannot be read, or the address not be reached.

    """
    host, _, port = address.rpartition(":")
    if address.startswith("unix") or not security.certificate:
        return grpc.insecure_channel(
            address if address.startswith("unix") else f"{_EVERYWHERE.get(host, host)}:{port}", _OPTIONS
        )
    certificate, key = Path(security.certificate).read_bytes(), Path(security.key).read_bytes()
    host = _EVERYWHERE.get(host, host)
    credentials = grpc.ssl_channel_credentials(certificate, key, certificate)
    name = _certified_name(host.strip("[]"), int(port), security.certificate)
    return grpc.secure_channel(f"{host}:{port}", credentials, (*_OPTIONS, ("grpc.ssl_target_name_override", name)))


def _certified_name(host: str, port: int, certificate: str) -> str:
    """Ask the server for its certificate, and give the first name in it."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), _CONNECT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        shown: Any = secure.getpeercert() or {}
    names = [str(name[1]) for name in shown.get("subjectAltName", ())]
    return names[0] if names else host
