"""Frees expired distributions by a timer of the event loop, even if no request comes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from samplerd_server.core.errors import UnavailableError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from samplerd_server.distributions.store import Store

__all__ = ["PERIOD_S", "ExpiryTimer"]

PERIOD_S = 1.0
"""An expired distribution is not found from that moment on; its memory is freed at most this much later."""


class ExpiryTimer:
    """Frees the expired distributions of a store once per period, between `start` and `stop`."""

    def __init__(self, store: Store, loop: AbstractEventLoop, period_s: float = PERIOD_S) -> None:
        self._store = store
        self._loop = loop
        self._period_s = period_s
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._timer = self._loop.call_later(self._period_s, self._free_expired)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _free_expired(self) -> None:
        self._timer = self._loop.call_later(self._period_s, self._free_expired)
        with suppress(UnavailableError):  # no file descriptor, or no folder: the next time will do
            self._store.free_expired()
