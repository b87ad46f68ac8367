"""The temporary folder of a server, for sockets and for files that its own processes share."""

from __future__ import annotations

import os
import tempfile

__all__ = ["lend_to_libraries", "make_temporary_folder"]

_MEMORY = "/dev/shm"  # noqa: S108  # the folder in it is made for us alone
"""Writable even where the root file system is not."""


def make_temporary_folder(inside: str = "") -> tempfile.TemporaryDirectory[str]:
    """Make the folder, which is removed with the object: in memory where possible.

    Args:
        inside: another such folder, to make it in; empty = none.

    Raises:
        OSError: there is no place for it.

    """
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="samplerd-", dir=inside or memory)


def lend_to_libraries(folder: str) -> None:
    """Let libraries make their temporary files in this folder, where the system has no place for them."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = folder
