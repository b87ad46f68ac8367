"""What the environment says: the only place of the client that reads it."""

from __future__ import annotations

import os

__all__ = ["DEFAULT_METRICS", "DEFAULT_SERVER", "default_server", "default_token", "proxy", "silence_grpc"]

DEFAULT_SERVER = "127.0.0.1:50051"
"""Where samplerd listens unless told otherwise."""
DEFAULT_METRICS = "127.0.0.1:9464"
"""Where its metrics are unless told otherwise."""


def default_server() -> str:
    """Return SAMPLERD_SERVER, or the default."""
    return os.environ.get("SAMPLERD_SERVER") or DEFAULT_SERVER


def default_token() -> str | None:
    """Return SAMPLERD_TOKEN, or None: a token on the command line would be seen by every user of the machine."""
    return os.environ.get("SAMPLERD_TOKEN") or None


def proxy() -> str:
    """Return the first variable that gRPC takes its proxy from, as ``name=value``; "" if there is none."""
    names = ("grpc_proxy", "https_proxy", "http_proxy")
    return next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), "")


def silence_grpc() -> None:
    """Keep gRPC's own log off standard error, where an error is one line; to be called before grpcio is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
