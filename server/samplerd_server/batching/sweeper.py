"""The sweeper: drops tickets that nobody waits for, whether or not a batch is formed, so that they hold no place.

Batches drop the tickets that they meet; while the device is busy for long, or hangs, none is formed. A cancelled ticket
gives its place back at once (`soon`), an expired one within `_PERIOD_S`. Rule 1: runs on
the event loop. Rule 2: `beats` counts its turns, by which another thread sees that the event loop turns
(process/watchdog.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Handle, TimerHandle

    from samplerd_server.batching.batcher import Batcher

__all__ = ["Sweeper"]

_PERIOD_S = 0.1
"""How soon a ticket whose deadline has passed gives its place back."""
_REST = 10.0
"""How many times as long as a sweep takes must pass before the next: it costs some 0.1 us for each waiting ticket."""


class Sweeper:
    """Sweeps the queue of one batcher again and again."""

    def __init__(self, batcher: Batcher, loop: AbstractEventLoop) -> None:
        self._batcher = batcher
        self._loop = loop
        self._timer: TimerHandle | None = None
        self._extra: Handle | None = None
        self._rest_until = 0.0
        self.beats = 0
        """Sweeps so far."""
        self.swept_at = time.monotonic()
        """When it last swept, on the monotonic clock."""

    def start(self) -> None:
        """Begin to sweep."""
        self._timer = self._loop.call_later(_PERIOD_S, self._sweep)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._timer is not None:
            self._timer.cancel()
        if self._extra is not None:
            self._extra.cancel()

    def soon(self) -> None:
        """Give the places of cancelled tickets back once this turn of the event loop has ended.

        After a sweep of a long queue it takes a little longer: sweeping takes a tenth of the time at most.
        """
        if self._extra is None:
            rest_s = self._rest_until - time.monotonic()
            extra = self._sweep_extra
            self._extra = self._loop.call_later(rest_s, extra) if rest_s > 0.0 else self._loop.call_soon(extra)

    def _sweep_extra(self) -> None:
        self._extra = None
        began = time.monotonic()
        self._batcher.sweep(began)
        ended = time.monotonic()
        self._rest_until = ended + _REST * (ended - began)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(_PERIOD_S, self._sweep)
        self.beats += 1
        self.swept_at = time.monotonic()
        self._batcher.sweep(self.swept_at)
