"""The files of distributions that several processes share: mapped whole, and locked while they are (folder.py)."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from samplerd_server.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["USED_UP", "map_file", "needs_folder", "unlink_unlocked"]

USED_UP = frozenset({errno.EMFILE, errno.ENFILE})
"""Errors of a process, or a system, that has no file descriptor left."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def needs_folder(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a method raise UnavailableError where its caller can try again, here or at another server.

    No file descriptor is left, or the folder is gone: workers that drain remove it once their supervisor was killed.
    """

    @wraps(method)
    def wrapped(*arguments: _P.args, **options: _P.kwargs) -> _T:
        try:
            return method(*arguments, **options)
        except OSError as error:
            if error.errno in USED_UP or isinstance(error, FileNotFoundError):
                raise UnavailableError(f"distributions cannot be looked up now: {error.strerror}") from error
            raise

    return wrapped


def map_file(descriptor: int, access: int) -> NDArray[np.uint8]:
    """Map a whole file; the mapping keeps the file locked, because it holds a duplicate of the descriptor."""
    return np.frombuffer(mmap.mmap(descriptor, 0, access=access), np.uint8)


def unlink_unlocked(path: str) -> None:
    """Unlink a file unless it is locked.

    Raises:
        BlockingIOError: it is.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(path).unlink()
    finally:
        os.close(descriptor)
