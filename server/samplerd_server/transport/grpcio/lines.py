"""Whose call begins next: many calls of one connection do not make those of other connections wait for them all.

Calls that grpcio has handed over wait here, in a line for each connection, and the lines take turns. While it waits, a
call costs nothing. Once it has begun, each turn of the event loop does a step of it and of all others, so beside other
connections few calls of one may have begun whose messages have not come.

Rule 1: a connection that is alone is not held back. Rule 2: a call gives its place back when its message has come,
however long its answer takes. Rule 3: a call whose message does not come keeps its place for a moment only. Runs on the
event loop.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable

__all__ = ["Lines", "Turn"]

_PLACES = 2
"""Calls of one connection that are read at once beside those of others; or one more than of all others together."""
_STALE_S = 0.05
"""Seconds after which a call whose message has not come loses its place."""
_SHARED_S = 1.0
"""Seconds in which the server counts as shared after another connection has called."""


class Turn:
    """One call."""

    __slots__ = ("_line", "_lines", "call", "came")

    def __init__(self, lines: Lines, line: _Line, call: object, came: float) -> None:
        self._lines = lines
        self._line = line
        self.call = call
        """What the transport knows it by."""
        self.came = came
        """When it came, in seconds on the monotonic clock."""

    @property
    def connection(self) -> Hashable:
        """Whose call it is."""
        return self._line.connection

    def give_back(self) -> None:
        """Give its place to the next call of its connection; once it has none, nothing happens."""
        self._lines.end(self._line, self)


class _Line:
    """The calls of one connection that have not been read."""

    __slots__ = ("begun", "connection", "waiting")

    def __init__(self, connection: Hashable) -> None:
        self.connection = connection
        self.begun: dict[Turn, float] = {}
        """Those that have places, and when they began; the oldest is first."""
        self.waiting: deque[Turn] = deque()


class Lines:
    """The calls that wait for their turn, and what takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] | None = None) -> None:
        """Take the event loop, and a clock in seconds; None = the loop's."""
        self._loop = loop
        self._clock = clock or loop.time
        self._lines: dict[Hashable, _Line] = {}
        self._ready: OrderedDict[_Line, None] = OrderedDict()
        """The lines whose next call may begin, in their order."""
        self._held: _Line | None = None
        """The line that has more calls which have begun than all others together; more than one cannot have them."""
        self._takers: deque[tuple[asyncio.Future[Any], deque[Turn]]] = deque()
        self._is_closed = False
        self.waiting = 0
        """Calls that wait for their turn."""
        self._begun = 0
        """Calls that have places, of all connections."""
        self._last: Hashable = None
        """The connection that called last."""
        self._shared_until = 0.0
        """Until when the server counts as shared; 0 = it has never been."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Hashable, call: object, came: float) -> None:
        """Let a call wait for its turn, which may be now; `came` is when it came, on the monotonic clock."""
        line = self._line(connection)
        line.waiting.append(Turn(self, line, call, came))
        self.waiting += 1
        self._offer(line)
        if line.waiting and self._timer is None:
            self._timer = self._loop.call_later(_STALE_S, self._free_stale)

    def waiting_of(self, connection: Hashable) -> int:
        """Count the calls of one connection that wait for their turn."""
        line = self._lines.get(connection)
        return 0 if line is None else len(line.waiting)

    def ask(self, wanted: asyncio.Future[Any], handed: deque[Turn]) -> None:
        """Set the next call as the result of `wanted`, now or later, and append its turn to `handed`."""
        self._takers.append((wanted, handed))
        self._serve()

    def close(self) -> None:
        """Let no call begin: those that wait, and those that come, wait for `open`, or until `clear` gives them up."""
        self._is_closed = True

    def open(self) -> None:
        """Let calls begin again."""
        self._is_closed = False
        self._serve()

    @property
    def reading(self) -> int:
        """Calls that have begun and whose messages have not come, of all connections."""
        return self._begun

    def clear(self) -> list[Turn]:
        """Give up the calls that wait; returns them."""
        left = [turn for line in self._lines.values() for turn in line.waiting]
        for line in self._lines.values():
            line.waiting.clear()
        self._ready.clear()
        self._held = None
        self.waiting = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return left

    def end(self, line: _Line, turn: Turn) -> None:
        """Take a call's place, if it has one."""
        if line.begun.pop(turn, None) is None:
            return
        self._begun -= 1
        self._offer(line)
        # A call may end when its connection has another line already.
        if not line.begun and not line.waiting and self._lines.get(line.connection) is line:
            del self._lines[line.connection]

    def _line(self, connection: Hashable) -> _Line:
        """Give the line of a connection that calls now."""
        if connection != self._last:
            if self._last is not None:
                self._shared_until = self._clock() + _SHARED_S
            self._last = connection
        line = self._lines.get(connection)
        if line is None:
            line = self._lines[connection] = _Line(connection)
        return line

    def _has_place(self, line: _Line) -> bool:
        own = len(line.begun)
        if own < _PLACES or own <= self._begun - own:
            return True
        return not self._shared_until or self._clock() >= self._shared_until

    def _offer(self, line: _Line) -> None:
        """Let the line's next call begin if it has a place and somebody takes it."""
        self._queue(line)
        self._serve()

    def _queue(self, line: _Line) -> None:
        """Let the line stand among those whose next call may begin, if it has a call and a place for it."""
        if not line.waiting:
            return
        if self._has_place(line):
            self._ready[line] = None
        else:
            self._held = line

    def _serve(self) -> None:
        while self._ready and self._takers and not self._is_closed:
            if self._takers[0][0].done():  # it has stopped
                self._takers.popleft()
                continue
            line, _ = self._ready.popitem(last=False)
            if line.waiting and self._has_place(line):
                self._begin(line)
            self._queue(line)

    def _begin(self, line: _Line) -> None:
        wanted, handed = self._takers.popleft()
        turn = line.waiting.popleft()
        self.waiting -= 1
        line.begun[turn] = self._clock()
        self._begun += 1
        handed.append(turn)
        wanted.set_result(turn.call)
        if self._held is not None:
            held, self._held = self._held, None
            self._queue(held)

    def _free_stale(self) -> None:
        """Take the places of calls whose messages do not come, where others wait for them."""
        self._timer = None
        since = self._clock() - _STALE_S
        for line in tuple(self._lines.values()):
            while line.waiting and line.begun:
                oldest, began = next(iter(line.begun.items()))
                if began > since:
                    break
                self.end(line, oldest)
            self._offer(line)
        if self.waiting:
            self._timer = self._loop.call_later(_STALE_S, self._free_stale)
