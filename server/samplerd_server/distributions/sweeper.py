"""Frees what has expired, whether or not anybody asks for it: a timer of the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from samplerd_server.distributions.store import Store

__all__ = ["PERIOD_S", "Sweeper"]

PERIOD_S = 1.0
"""What has expired is not found any more at once, and takes its memory for so long at most."""


class Sweeper:
    """Sweeps a store again and again between `start` and `stop`."""

    def __init__(self, store: Store, loop: AbstractEventLoop, period_s: float = PERIOD_S) -> None:
        self._store = store
        self._loop = loop
        self._period_s = period_s
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self._timer = self._loop.call_later(self._period_s, self._sweep)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(self._period_s, self._sweep)
        self._store.sweep()
