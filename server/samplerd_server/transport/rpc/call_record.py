"""What is noted of one call while it is answered, for the access log and for traces. On the event loop.

Most calls have no record: `Recorder` makes one for a call that is logged or traced.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from samplerd_server.batching.ticket import Reply, Ticket
    from samplerd_server.transport.rpc.call_trace import CallTrace

__all__ = ["CallRecord"]


class CallRecord:
    """The sums over all requests of one call."""

    __slots__ = (
        *("_first", "bytes_in", "bytes_out", "compute_s", "context", "is_stream", "requests", "rows", "samples"),
        *("trace", "wait_s"),
    )

    def __init__(self, context: ServicerContext[bytes, bytes]) -> None:
        self.context = context
        """The transport's side."""
        self.trace: CallTrace | None = None
        """None = the call is not traced."""
        self.bytes_in = 0
        """Bytes of the messages that came, without frames."""
        self.bytes_out = 0
        """Bytes of the messages that were sent."""
        self.requests = 0
        """Requests that were queued."""
        self.rows = 0
        self.samples = 0
        self.wait_s = 0.0
        """Seconds in the queue."""
        self.compute_s = 0.0
        """Seconds of the batches in which rows of the call were computed."""
        self.is_stream = False
        """Whether many requests may come, so that no reply is kept."""
        self._first: Reply | None = None
        """The reply to the only request of most calls: to look at it in the end costs less than a callback."""

    def queued(self, ticket: Ticket) -> None:
        """Take note of a request of the call that was queued."""
        request = ticket.request
        self.samples += request.samples
        if not getattr(request, "drawn", 0):  # otherwise an earlier part of the request had the row
            self.rows += ticket.rows
        self.requests += ticket.requests
        if self.trace is not None:
            self.trace.queued(ticket)
        if self.requests == 1 and not self.is_stream:
            self._first = ticket.reply
        else:
            ticket.reply.add_done_callback(partial(self._answered, requests=ticket.requests))

    def settle(self) -> None:
        """Add what the first request took, because the call has ended."""
        first, self._first = self._first, None
        if first is not None and first.done():
            self._answered(first)

    def _answered(self, reply: Reply, requests: int = 1) -> None:
        if not reply.cancelled() and reply.exception() is None:
            timing = reply.result().timing
            self.wait_s += requests * timing.queue_s
            self.compute_s += requests * timing.compute_s
