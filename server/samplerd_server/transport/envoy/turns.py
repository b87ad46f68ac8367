"""Whose message is read next: many calls of one connection do not make those of other connections wait for them all.

Before its message is read, a call passes through the event loop and through Envoy's thread, which pyvoy asks for the
body, and both serve in the order of what comes. So a call would wait for all of another connection that came before it.
Here a connection has a few places; its other calls wait for one, in their order, and cost nothing meanwhile.

Rule 1: a connection that is alone is not held back. Rule 2: a call gives its place back when its message has come,
however long its answer takes. Rule 3: a call whose message does not come keeps its place for a moment only, so that
nobody waits for a client that sends half of a message. Runs on the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Hashable

__all__ = ["Turns"]

_PLACES = 8
"""Calls of one connection that are read at once beside those of others; or as many as those of all others together."""
_STALE_S = 0.05
"""Seconds after which a call whose message has not come loses its place; Envoy's thread takes less under load."""
_SHARED_S = 1.0
"""Seconds in which the server counts as shared after another connection has called."""
_T = TypeVar("_T")


class _Line:
    """The calls of one connection that have not been read."""

    __slots__ = ("begun", "waiting")

    def __init__(self) -> None:
        self.begun: dict[object, float] = {}
        """The calls that have places, and when they began; the oldest is first."""
        self.waiting: OrderedDict[object, asyncio.Future[None]] = OrderedDict()


class Turns:
    """Gives places to calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] | None = None) -> None:
        """Take the event loop, and a clock in seconds; None = the loop's."""
        self._loop = loop
        self._clock = clock or loop.time
        self._lines: dict[Hashable, _Line] = {}
        self.waiting = 0
        """Calls that wait for a place."""
        self._begun = 0
        """Calls that have places, of all connections."""
        self._last: Hashable = None
        """The connection that called last."""
        self._shared_until = 0.0
        """Until when the server counts as shared; 0 = it has never been."""
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, connection: Hashable, read: Callable[[], Awaitable[_T]]) -> _T:
        """Read a call's message when it is the call's turn."""
        call = object()
        now = self._clock()
        line = self._line(connection, now)
        if now >= self._shared_until or (not line.waiting and self._has_place(line)):
            line.begun[call] = now
            self._begun += 1
        else:
            line.waiting[call] = turn = self._loop.create_future()
            self.waiting += 1
            if self._timer is None:
                self._timer = self._loop.call_later(_STALE_S, self._free_stale)
            try:
                await turn
            except BaseException:
                self._give(connection, line, call)
                raise
        try:
            return await read()
        finally:
            if line.waiting or call not in line.begun:
                self._give(connection, line, call)
            else:  # as most calls end: nobody waits for the place
                del line.begun[call]
                self._begun -= 1
                if not line.begun:
                    del self._lines[connection]

    def _line(self, connection: Hashable, now: float) -> _Line:
        """Give the line of a connection that calls now."""
        if connection != self._last:
            if self._last is not None:
                self._shared_until = now + _SHARED_S
            self._last = connection
        line = self._lines.get(connection)
        if line is None:
            line = self._lines[connection] = _Line()
        return line

    def _has_place(self, line: _Line) -> bool:
        own = len(line.begun)
        return own < _PLACES or own < self._begun - own

    def _begin(self, line: _Line, call: object) -> None:
        line.begun[call] = self._clock()
        self._begun += 1

    def _end(self, line: _Line, call: object) -> None:
        if line.begun.pop(call, None) is not None:
            self._begun -= 1

    def _give(self, connection: Hashable, line: _Line, call: object) -> None:
        """Give a call's place back, or let it wait no longer."""
        self._end(line, call)
        if line.waiting.pop(call, None) is not None:
            self.waiting -= 1
        self._move_up(connection, line)

    def _move_up(self, connection: Hashable, line: _Line) -> None:
        """Let those begin for whom there are places now."""
        while line.waiting and self._has_place(line):
            call, turn = line.waiting.popitem(last=False)
            self.waiting -= 1
            if not turn.done():
                self._begin(line, call)
                turn.set_result(None)
        # A call that has lost its place may end when the connection has another line already.
        if not line.begun and not line.waiting and self._lines.get(connection) is line:
            del self._lines[connection]

    def _free_stale(self) -> None:
        """Take the places of calls whose messages do not come, where others wait for them."""
        self._timer = None
        since = self._clock() - _STALE_S
        for connection, line in tuple(self._lines.items()):
            while line.waiting and line.begun:
                oldest, began = next(iter(line.begun.items()))
                if began > since:
                    break
                self._end(line, oldest)
            self._move_up(connection, line)
        if self.waiting:
            self._timer = self._loop.call_later(_STALE_S, self._free_stale)
