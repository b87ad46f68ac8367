"""A ticket: a request in the queue, with what becomes its reply."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.batching.batch_spans import BatchSpan
    from samplerd_server.core.request import SampleRequest, VerifyRequest

__all__ = ["AGING_S", "HORIZON_S", "NO_DEADLINE", "Reply", "Ticket"]

NO_DEADLINE = math.inf
HORIZON_S = 10.0
"""A request without a deadline, or with a later one, is queued as if its deadline were this long after its arrival.
That bounds how long requests with nearer deadlines can hold it back."""
AGING_S = 0.1
"""Seconds of waiting that one step of priority counts for."""

_EARLY_S = 2e-3
"""Timers of the event loop count whole milliseconds, and the clocks of transports differ by less than one."""


class Reply(Protocol):
    """What a ticket resolves: a future, or something of which this part is like a future."""

    def done(self) -> bool:
        """Whether it has a result or an exception, or is cancelled."""
        ...

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        ...

    def result(self) -> Any:
        """Give the result, or raise the exception, once it is done."""
        ...

    def exception(self) -> BaseException | None:
        """Give the exception once it is done; None = it has a result."""
        ...

    def set_result(self, result: Any, /) -> None:
        """Resolve it. Only while it is not done."""
        ...

    def set_exception(self, exception: Any, /) -> None:
        """Resolve it with an error. Only while it is not done."""
        ...

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call something with it once it is done."""
        ...


class Ticket:
    """A request with its arrival, deadline, connection and reply.

    Owned by the event loop: `reply` is resolved there and nowhere else. A reply that is already done, because its
    caller has gone, is left alone.
    """

    __slots__ = (
        "arrival",
        "batch_span",
        "connection",
        "deadline",
        "held_bytes",
        "is_traced",
        "reply",
        "request",
        "requests",
        "rows",
        "size_bytes",
        "urgency",
        "work",
    )

    def __init__(
        self,
        request: SampleRequest | VerifyRequest,
        arrival: float,
        deadline: float,
        connection: str,
        reply: Reply,
        *,
        requests: int = 1,
    ) -> None:
        self.request = request
        self.rows = request.rows
        """Copies of three properties of the request, which are computed once and read often."""
        self.size_bytes = request.size_bytes
        self.work = request.work
        self.held_bytes = request.held_bytes
        """What the request counts against the bound of the queue."""
        self.arrival = arrival
        """Seconds on the monotonic clock, like all times of a ticket."""
        self.deadline = deadline
        """After this the caller no longer wants the answer; NO_DEADLINE = never."""
        self.connection = connection
        """The connection whose fair share the request counts against."""
        self.reply = reply
        self.requests = requests
        """Requests of the caller that the request stands for: several that came together may be one."""
        self.is_traced = False
        """Whether its call is traced, so that its batch has a span."""
        self.batch_span: BatchSpan | None = None
        horizon = arrival + HORIZON_S
        self.urgency = (deadline if deadline < horizon else horizon) - AGING_S * request.priority
        """Smaller is served first. Fixed at arrival: later tickets get larger values, so no ticket starves."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller has stopped waiting for the result."""
        return self.reply.done()

    def is_expired(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return now >= self.deadline

    def ended_late(self, now: float) -> bool:
        """Whether a dropped ticket's deadline has passed, rather than that its caller has cancelled it.

        Transports cancel a call whose deadline passes, and may do so a little early by this clock.
        """
        return now >= self.deadline - _EARLY_S

    def fail(self, error: Exception) -> None:
        """Deliver an error."""
        if not self.reply.done():
            self.reply.set_exception(error)
