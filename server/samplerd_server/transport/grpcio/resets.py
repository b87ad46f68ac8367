"""Which connections reset most of their calls: the next ones are refused for the rest of a second.

A call that its caller resets a moment after it began costs the caller nothing, and the server most of what a small call
costs. HTTP/2's bound of open calls does not help, since a call that was reset counts no more.

Rule 1: a call whose deadline has passed was not reset. Rule 2: whoever resets fewer than half of the calls that end, as
callers do that ask two servers and take the first answer, is never refused. Runs on the event loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Resets"]

_MOST = 2_000
"""Calls that a connection may reset within a second."""
_WINDOW_S = 1.0


class Resets:
    """The calls that ended within this second, by connection."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock in seconds."""
        self._clock = clock
        self._until = 0.0
        self._ended: dict[str, int] = {}
        self._reset: dict[str, int] = {}

    def note(self, connection: str, *, is_reset: bool) -> None:
        """Count a call that has ended."""
        if self._clock() >= self._until:
            self._until = self._clock() + _WINDOW_S
            self._ended.clear()
            self._reset.clear()
        self._ended[connection] = self._ended.get(connection, 0) + 1
        if is_reset:
            self._reset[connection] = self._reset.get(connection, 0) + 1

    def are_too_many(self, connection: str) -> bool:
        """Whether a call of this connection is refused now."""
        reset = self._reset.get(connection, 0)
        return reset >= _MOST and 2 * reset > self._ended[connection] and self._clock() < self._until
