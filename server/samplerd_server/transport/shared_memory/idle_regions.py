"""How long registered regions have gone without use: one timer of the event loop for those that nobody names any more.

A client that dies cannot unregister its regions, and nothing tells the server that it is gone: a region is registered
by one call and named by others, over any connection, and a handle of CUDA does not say whose it is. So a region that no
request names for a while is taken for one of them. On the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IdleRegions"]


class IdleRegions:
    """When each region was used last.

    Args:
        limit_s: seconds without use after which a region is given up; 0 = never.
        give_up: unregisters the region of a name.

    """

    def __init__(self, limit_s: float, give_up: Callable[[str], None]) -> None:
        self._limit_s = limit_s
        self._give_up = give_up
        self._used_at_s: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def use(self, name: str) -> None:
        """Take note that a region is named, or was registered."""
        if self._limit_s:
            loop = asyncio.get_running_loop()
            self._used_at_s[name] = loop.time()
            if self._timer is None:
                self._timer = loop.call_later(self._limit_s, self._look)

    def forget(self, name: str) -> None:
        """Take note that a region is registered no more."""
        self._used_at_s.pop(name, None)
        if self._timer is not None and not self._used_at_s:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Give up what was not used for long enough, and look again when the next one may be due."""
        loop = asyncio.get_running_loop()
        latest_s = loop.time() - self._limit_s
        for name, used_at_s in tuple(self._used_at_s.items()):
            if used_at_s <= latest_s:
                del self._used_at_s[name]
                self._give_up(name)
        self._timer = None
        if self._used_at_s:
            self._timer = loop.call_at(min(self._used_at_s.values()) + self._limit_s, self._look)
