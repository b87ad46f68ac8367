"""A request in the queue: it carries its own reply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future

    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult

__all__ = ["AGING_S", "HORIZON_S", "NO_DEADLINE", "Ticket"]

NO_DEADLINE = math.inf
HORIZON_S = 10.0
"""A request without a deadline, or with a far one, queues as if it were due this long after its arrival: that bounds
how long nearer deadlines can hold it back."""
AGING_S = 0.1
"""One step of priority is worth this much waiting."""


class Ticket:
    """A request, when it came, when it is due, whom it is from, and where its result goes.

    The event loop's; `reply` is resolved there and nowhere else. A reply that is already done (its caller has gone) is
    left alone.
    """

    __slots__ = ("arrival", "connection", "deadline", "reply", "request", "rows", "size_bytes", "urgency", "work")

    def __init__(
        self,
        request: SampleRequest | VerifyRequest,
        arrival: float,
        deadline: float,
        connection: str,
        reply: Future[SampleResult] | Future[VerifyResult],
    ) -> None:
        self.request = request
        self.rows = request.rows
        """What the request counts against the bounds, as are the next two: asked once, needed often."""
        self.size_bytes = request.size_bytes
        self.work = request.work
        self.arrival = arrival
        """Seconds on the monotonic clock, as all times here."""
        self.deadline = deadline
        """When the answer is of no more use; NO_DEADLINE = always of use."""
        self.connection = connection
        """Whose fair share it counts against."""
        self.reply = reply
        horizon = arrival + HORIZON_S
        self.urgency = (deadline if deadline < horizon else horizon) - AGING_S * request.priority
        """Smaller goes first. Fixed at arrival: as time passes, newcomers get larger ones, so nobody starves."""

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self.reply.done()

    def is_expired(self, now: float) -> bool:
        """Whether the answer would come too late."""
        return now >= self.deadline

    def fail(self, error: Exception) -> None:
        """Deliver an error."""
        if not self.reply.done():
            self.reply.set_exception(error)
