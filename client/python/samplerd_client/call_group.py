"""Calls that can share requests: those that wait to be sent, and the requests in flight."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_client.errors import DeadlineError

if TYPE_CHECKING:
    import asyncio

    from samplerd_client.coalesced_request import Call, Key

__all__ = ["CallGroup", "SentRequest"]


@dataclass(frozen=True, slots=True, eq=False)
class SentRequest:
    """A request in flight."""

    calls: list[Call]
    task: asyncio.Task[None]
    """Sends the request and hands its calls their results."""


class CallGroup:
    """Calls with the same key, in order of arrival, and the requests that carry others of them."""

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
        self.in_flight: set[SentRequest] = set()
        self.head_start = 0
        """This many waiting calls are sent before the end of the event loop's turn; 0 = none are."""
        self.direct_calls = 0
        """Calls in flight that were sent at once, alone."""
        self.is_due = False
        """What waits will be sent at the end of this turn of the event loop."""
        self._waiting: deque[Call] = deque()
        self._waiting_bytes = 0

    def __len__(self) -> int:
        """Return the number of calls that wait."""
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        """Number of requests in flight."""
        return len(self.in_flight) + self.direct_calls

    @property
    def is_idle(self) -> bool:
        """Whether no call waits and no request is in flight."""
        return not (self._waiting or self.under_way)

    def is_worth_one(self) -> bool:
        """Tell whether enough calls wait for another request: a quarter of the largest one in flight at least."""
        return 4 * len(self._waiting) >= max((len(request.calls) for request in self.in_flight), default=0)

    def fills(self, max_rows: int, max_bytes: int) -> bool:
        """Tell whether the waiting calls fill a request of this size."""
        return len(self._waiting) >= max_rows or self._waiting_bytes >= max_bytes

    def add(self, call: Call) -> None:
        """Append a call to the queue."""
        self._waiting.append(call)
        self._waiting_bytes += call.size

    def put_back(self, call: Call) -> None:
        """Put a call back at the head of the queue."""
        self._waiting.appendleft(call)
        self._waiting_bytes += call.size

    def take(self, max_rows: int, max_bytes: int) -> list[Call]:
        """Take the calls of the next request, oldest first: at least one, unless every waiting call was given up."""
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
        """Take every waiting call."""
        return [self._pop() for _ in range(len(self._waiting))]

    def forget(self, call: Call) -> None:
        """Remove a call that its caller has cancelled."""
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
