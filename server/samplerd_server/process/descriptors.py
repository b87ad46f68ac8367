"""Says in the log that the process has no file descriptor left, and that it has some again.

Rule 1: while none is left, connections that are open are served, and new ones wait in the system until one is. Rule 2:
one line when they are used up, one a minute while they are, and one when they no longer are. On the event loop.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
from typing import TYPE_CHECKING

from samplerd_server.process.log import event

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

__all__ = ["DescriptorWatch"]

_LOG = logging.getLogger("samplerd")
_PERIOD_S = 1.0
_LINE_S = 60.0


class DescriptorWatch:
    """Looks once a second, between `start` and `stop`."""

    def __init__(self, loop: AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._timer: TimerHandle | None = None
        self._said_at: float | None = None
        """When the log last said that none was left; None = there were some at the last look."""

    def start(self) -> None:
        """Begin."""
        self._timer = self._loop.call_later(_PERIOD_S, self._tick)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_PERIOD_S, self._tick)
        self.look()

    def look(self) -> None:
        """Look whether a descriptor is left, and log what has changed."""
        if _is_one_left():
            if self._said_at is not None:
                event(_LOG, logging.INFO, "file descriptors are left again")
            self._said_at = None
            return
        now = self._clock()
        if self._said_at is None or now - self._said_at >= _LINE_S:
            self._said_at = now
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            event(_LOG, logging.WARNING, "no file descriptor is left, so new connections wait", limit=limit)


def _is_one_left() -> bool:
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno not in {errno.EMFILE, errno.ENFILE}
    return True
