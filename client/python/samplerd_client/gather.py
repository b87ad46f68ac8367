"""The calls that can share a request: those that wait, and the requests that are under way."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_client.errors import DeadlineError

if TYPE_CHECKING:
    import asyncio

    from samplerd_client.bundle import Call, Key

__all__ = ["Group", "Request"]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request under way."""

    calls: list[Call]
    task: asyncio.Task[None]
    """Sends it and settles its calls."""


class Group:
    """Calls that agree in their key, in order of arrival."""

    __slots__ = (
        "_waiting",
        "_waiting_bytes",
        "direct_calls",
        "head_start",
        "in_flight",
        "is_due",
        "key",
        "num_samples",
    )

    def __init__(self, key: Key, num_samples: int) -> None:
        self.key = key
        self.num_samples = num_samples
        self.in_flight: set[Request] = set()
        self.head_start = 0
        """So many calls do not wait for the end of this turn; 0 = all do."""
        self.direct_calls = 0
        """Calls under way that were sent without gathering."""
        self.is_due = False
        """It will be looked at, at the end of this turn of the event loop."""
        self._waiting: deque[Call] = deque()
        self._waiting_bytes = 0

    def __len__(self) -> int:
        """Return the number of calls that wait."""
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        """Requests that are under way."""
        return len(self.in_flight) + self.direct_calls

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing in it."""
        return not (self._waiting or self.under_way)

    def is_worth_one(self) -> bool:
        """Say whether what waits is worth a request beside those under way: a quarter of the largest at least."""
        return 4 * len(self._waiting) >= max((len(request.calls) for request in self.in_flight), default=0)

    def fills(self, max_rows: int, max_bytes: int) -> bool:
        """Say whether what waits is enough for a request of this size."""
        return len(self._waiting) >= max_rows or self._waiting_bytes >= max_bytes

    def add(self, call: Call) -> None:
        """Have a call wait, after all others."""
        self._waiting.append(call)
        self._waiting_bytes += call.size

    def put_back(self, call: Call) -> None:
        """Have a call wait again, before all others."""
        self._waiting.appendleft(call)
        self._waiting_bytes += call.size

    def take(self, max_rows: int, max_bytes: int) -> list[Call]:
        """Take the calls of the next request, the oldest first: at least one, if any that waits is still wanted."""
        calls: list[Call] = []
        size = 0
        while self._waiting and len(calls) < max_rows:
            if self._waiting[0].is_wanted:
                size += self._waiting[0].size
                if calls and size > max_bytes:
                    break
                calls.append(self._waiting[0])
            self._pop()
        return calls

    def take_all(self) -> list[Call]:
        """Take all that waits."""
        return [self._pop() for _ in range(len(self._waiting))]

    def forget(self, call: Call) -> None:
        """Take back a call that its caller has cancelled."""
        if call in self._waiting:
            self._waiting.remove(call)
            self._waiting_bytes -= call.size
        self._cancel_unwanted()

    def expire(self, now_s: float) -> float:
        """Fail the calls whose deadline has passed, and return the nearest one of the others; inf = none."""
        next_s = math.inf
        waiting = self.take_all()
        for call in (*waiting, *(call for request in self.in_flight for call in request.calls)):
            if call.deadline_s <= now_s:
                call.fail(DeadlineError("the time given to the call is over"))
            elif call.is_wanted:
                next_s = min(next_s, call.deadline_s)
        for call in waiting:
            if call.is_wanted:
                self.add(call)
        self._cancel_unwanted()
        return next_s

    def _pop(self) -> Call:
        call = self._waiting.popleft()
        self._waiting_bytes -= call.size
        return call

    def _cancel_unwanted(self) -> None:
        for request in self.in_flight:
            if not any(call.is_wanted for call in request.calls):
                request.task.cancel()
