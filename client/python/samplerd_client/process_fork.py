"""Whether this process was forked off one in which gRPC's asyncio had begun, which does not work in a child.

The threads that move gRPC's messages stay behind in the parent, so a call in the child would wait for ever. Rule 1:
what would wait raises instead. A process that forks before its first client, and children that are spawned, are not
concerned.
"""

from __future__ import annotations

import os

from samplerd_client.errors import ConnectionLostError

__all__ = ["begin_grpc", "check_fork", "is_forked"]

_TEXT = (
    "gRPC does not work in a process that was forked after its parent had opened a client; fork before the first client"
    ' is opened, or start the process with multiprocessing\'s "spawn" or "forkserver"'
)

_HAS_BEGUN = False
_IS_FORKED = False


def begin_grpc() -> None:
    """Note that this process uses gRPC from now on.

    Raises:
        ConnectionLostError: it was forked off a process that had.

    """
    global _HAS_BEGUN  # noqa: PLW0603  # the state of the process, as gRPC's is
    check_fork()
    _HAS_BEGUN = True


def check_fork() -> None:
    """Raise ConnectionLostError if this process was forked off one that used gRPC."""
    if _IS_FORKED:
        raise ConnectionLostError(_TEXT)


def is_forked() -> bool:
    """Tell whether this process was forked off one that used gRPC."""
    return _IS_FORKED


def _after_fork() -> None:
    global _IS_FORKED  # noqa: PLW0603  # see begin_grpc
    _IS_FORKED = _IS_FORKED or _HAS_BEGUN


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
