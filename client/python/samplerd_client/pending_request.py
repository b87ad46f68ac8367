"""A request of a stream that is in flight: the replies to it that its caller has not taken, and when it is due.

Rule 1: the deadlines of all requests of a stream share one timer, which looks at each when the first is due: nearly all
are answered long before, and a timer of each would cost more than waiting does. On the event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from samplerd_client.errors import DeadlineError, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TIME_IS_OVER", "DueTimer", "PendingRequest"]

TIME_IS_OVER = "the time given to the request is over"
Response = TypeVar("Response")


class PendingRequest(Generic[Response]):
    """A request in flight, with the replies to it that its caller has not taken yet."""

    __slots__ = ("_replies", "_waiter", "body", "due_s", "is_abandoned")

    def __init__(self, body: bytes, due_s: float = math.inf) -> None:
        self.body = body
        self.due_s = due_s
        """When it fails if its caller still waits, by the clock of the event loop."""
        self._replies: deque[Response | SamplerdError] = deque()  # bounded by what the caller asked for
        self._waiter: asyncio.Future[None] | None = None
        self.is_abandoned = False

    def put(self, reply: Response | SamplerdError) -> None:
        """Queue a reply, or the failure, for the caller."""
        self._replies.append(reply)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def has_replies(self) -> bool:
        """Whether `pop` gives a reply or raises the failure."""
        return bool(self._replies)

    def next_put(self) -> asyncio.Future[None]:
        """Return what is told of the next `put`. One caller at a time."""
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        return waiter

    async def take(self) -> Response:
        """Return the next reply, or raise the failure. One caller at a time."""
        while not self._replies:
            await self.next_put()
        return self.pop()

    def pop(self) -> Response:
        """Return the next reply that has come, or raise the failure."""
        reply = self._replies.popleft()
        if isinstance(reply, SamplerdError):
            raise reply
        return reply


class DueTimer:
    """Fails the requests that are due."""

    def __init__(self, pending: Mapping[int, PendingRequest[Any]]) -> None:
        """Take the requests in flight, as they come and go."""
        self._pending = pending
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, due_s: float) -> None:
        """Take note that a request is due at this time, by the clock of the event loop; infinity = never."""
        if due_s < math.inf and (self._timer is None or due_s < self._timer.when()):
            self.cancel()
            self._timer = asyncio.get_running_loop().call_at(due_s, self._fail_due)

    def cancel(self) -> None:
        """Fail none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail_due(self) -> None:
        self._timer, next_s = None, math.inf
        now_s = asyncio.get_running_loop().time()
        for pending in self._pending.values():
            if pending.is_abandoned:
                continue
            if pending.due_s <= now_s:
                pending.due_s = math.inf
                pending.put(DeadlineError(TIME_IS_OVER))
            next_s = min(next_s, pending.due_s)
        self.watch(next_s)
