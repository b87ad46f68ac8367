"""The flags of samplerctl that say which server to call, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_client.samplerctl import environment
from samplerd_client.samplerctl.flag_values import positive, seconds, targets

if TYPE_CHECKING:
    import argparse

__all__ = ["QUESTION_S", "add_connection_flags"]

_CALL_S = 30.0
QUESTION_S = 5.0
"""Timeout of calls that neither send rows nor draw: a server that works answers them in milliseconds."""


def add_connection_flags(parser: argparse.ArgumentParser, timeout_s: float = _CALL_S) -> None:
    """Offer the flags of a connection; `timeout_s` is the default timeout of a call."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--server",
        default=environment.default_server(),
        type=targets,
        metavar="TARGET",
        help="the server: host, host:port or unix:/path; several addresses of one kind, with commas between them: the "
        "healthy ones are called in turn (default %(default)s; port 50051 if none is given; set by SAMPLERD_SERVER)",
    )
    group.add_argument(
        "--balance", action="store_true", help="call every healthy address that the server's name stands for in turn"
    )
    group.add_argument(
        "--connections",
        type=positive,
        default=1,
        metavar="N",
        help="connections to each server, on which calls take turns (1)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=timeout_s,
        metavar="SECONDS",
        help=f"timeout of a call (default {_CALL_S:g}, or {QUESTION_S:g} where nothing is uploaded or drawn)",
    )
    group.add_argument(
        "--tls", action="store_true", help="encrypt the connection; SAMPLERD_TOKEN holds the token, if one is needed"
    )
    group.add_argument(
        "--tls-ca", metavar="FILE", help="PEM file of the authorities trusted to sign the server's certificate"
    )
    group.add_argument("--tls-cert", metavar="FILE", help="PEM file of this client's certificate")
    group.add_argument("--tls-key", metavar="FILE", help="PEM file of its private key")
    group.add_argument("--tls-server-name", metavar="NAME", help="the name to expect in the server's certificate")
