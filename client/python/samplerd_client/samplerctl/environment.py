"""What the environment says: the only place of the client that reads it."""

from __future__ import annotations

import os

__all__ = ["DEFAULT_SERVER", "default_server", "default_token"]

DEFAULT_SERVER = "127.0.0.1:50051"
"""Where samplerd listens unless told otherwise."""


def default_server() -> str:
    """Return SAMPLERD_SERVER, or the default."""
    return os.environ.get("SAMPLERD_SERVER") or DEFAULT_SERVER


def default_token() -> str | None:
    """Return SAMPLERD_TOKEN, or None: a token on the command line would be seen by every user of the machine."""
    return os.environ.get("SAMPLERD_TOKEN") or None
