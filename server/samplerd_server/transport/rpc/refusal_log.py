"""Logs refused calls and requests: at most ten lines a second for each reason, then one that says how many there were.

Rule 1: no token is logged, and nothing that a caller chose but a method that exists and a request id, which is checked.
Rule 2: a line never waits for its reader. On the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from samplerd_server.process.log import background_event

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RefusalLog"]

_LINES_PER_S = 10
_WINDOW_S = 1.0


class _Window:
    """What was refused for one reason within a second."""

    __slots__ = ("began", "left_out", "lines", "timer")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.left_out = 0
        self.timer: asyncio.TimerHandle | None = None
        """Tells what was left out, if no other refusal does so before."""


class RefusalLog:
    """The refusals of the last second, by reason. Reasons are those of the server's errors, which are few."""

    def __init__(self, logger: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logging.getLogger(logger)
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def refused(self, reason: str, **values: object) -> None:
        """Log a refusal, or count it for the line that says how many were left out.

        Args:
            reason: why, in one word.
            values: what is known of the call, in words that hold nothing of what was sent.

        """
        now = self._clock()
        window = self._windows.get(reason)
        if window is None:
            self._windows[reason] = window = _Window(now)
        elif now - window.began >= _WINDOW_S:
            self._tell(reason, window)
            window.began, window.lines = now, 0
        if window.lines < _LINES_PER_S:
            window.lines += 1
            background_event(self._logger, logging.WARNING, "a call was refused", reason=reason, **values)
            return
        window.left_out += 1
        if window.timer is None:
            with suppress(RuntimeError):  # no event loop runs
                loop = asyncio.get_running_loop()
                window.timer = loop.call_later(window.began + _WINDOW_S - now, self._tell, reason, window)

    def _tell(self, reason: str, window: _Window) -> None:
        """Say how many were left out."""
        if window.timer is not None:
            window.timer.cancel()
            window.timer = None
        if window.left_out:
            message = "calls were refused that have no line of their own"
            background_event(self._logger, logging.WARNING, message, reason=reason, left_out=window.left_out)
        window.left_out = 0

    def close(self) -> None:
        """Say what was left out until now."""
        for reason, window in self._windows.items():
            self._tell(reason, window)
