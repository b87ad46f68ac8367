"""What is noted of a call that is traced: the moments of its requests, and the spans of their batches. Event loop.

A request has four moments, each of which begins a part of its time: `wait` in the queue, `batch` closed, `compute` on
the device, `encode` of the reply. The span ends when that is done. Of a call with many requests the first
`_MAX_REQUESTS` are noted, so that a long stream takes no memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from samplerd_server.process.tracing import Event

if TYPE_CHECKING:
    from asyncio import Future

    from samplerd_server.batching.batch_spans import BatchSpan
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.process.tracing import Parent

__all__ = ["CallTrace"]

_MAX_REQUESTS = 32


class CallTrace:
    """The moments of one call."""

    __slots__ = ("batches", "events", "parent", "requests", "vocabulary")

    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.events: list[Event] = []
        self.batches: list[BatchSpan] = []
        self.requests = 0
        self.vocabulary = 0
        """The largest of all requests."""

    def queued(self, ticket: Ticket) -> None:
        """Take note of a request that was queued."""
        request: Any = ticket.request
        self.vocabulary = max(self.vocabulary, getattr(request, "target", request).source.vocab_size)
        self.requests += 1
        if self.requests > _MAX_REQUESTS:
            return
        ticket.is_traced = True
        self.events.append(Event("wait", time.monotonic(), {}))
        ticket.reply.add_done_callback(lambda reply: self._answered(ticket, reply))

    def _answered(self, ticket: Ticket, reply: Future[Any]) -> None:
        if reply.cancelled() or reply.exception() is not None:
            return
        timing = reply.result().timing
        formed_s = ticket.arrival + timing.queue_s
        self.events.append(Event("batch", formed_s, {"rows": timing.batch_rows}))
        began_s = formed_s
        if ticket.batch_span is not None:
            self.batches.append(ticket.batch_span)
            began_s = ticket.batch_span.began_s
        self.events.append(Event("compute", began_s, {"seconds": timing.compute_s}))
        self.events.append(Event("encode", time.monotonic(), {}))
