"""A file of the settings that is read again when it changes.

Rule 1: a file that cannot be used changes nothing: what was read before stays, with one line in the log. Rule 2: the
file is looked at no more than once a second, when somebody asks for what is in it: no thread, no timer.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from samplerd_server.config.setting import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WatchedFile"]

Content = TypeVar("Content")
_LOG = logging.getLogger("samplerd.security")
_LOOK_EVERY_S = 1.0


class WatchedFile(Generic[Content]):
    """What is in a file now."""

    def __init__(self, path: str, read: Callable[[str], Content], clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file; `read` takes the path, and an empty one too, which is never looked at again.

        Raises:
            ConfigError: the file cannot be used.

        """
        self._path = path
        self._read = read
        self._clock = clock
        self._seen = self._stat()
        self._content = read(path)
        self._looked_at = clock()

    def get(self) -> Content:
        """Give what the file held when it was last usable."""
        if self._path and (now := self._clock()) - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._content

    def _look(self) -> None:
        seen = self._stat()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._content = self._read(self._path)
        except ConfigError as error:
            _LOG.warning("the changed file cannot be used, what it held before stays: %s", error)
        else:
            _LOG.info("read again: %s", self._path)

    def _stat(self) -> tuple[int, ...]:
        try:
            file = Path(self._path).stat()
        except OSError:
            return ()
        return file.st_ino, file.st_mtime_ns, file.st_size
