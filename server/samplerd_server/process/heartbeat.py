"""The heartbeat of an event loop: what it counts shows another thread that the loop turns (process/watchdog.py)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

__all__ = ["Heartbeat"]

_PERIOD_S = 0.1


class Heartbeat:
    """Beats ten times a second for as long as its event loop turns."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: TimerHandle | None = None
        self.beats = 0
        """Beats so far."""
        self.beat_at = time.monotonic()
        """When it last beat, on the monotonic clock."""

    def start(self) -> None:
        """Begin to beat."""
        self._timer = self._loop.call_later(_PERIOD_S, self._beat)

    def stop(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._timer = self._loop.call_later(_PERIOD_S, self._beat)
        self.beats += 1
        self.beat_at = time.monotonic()
