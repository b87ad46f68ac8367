"""What is noted of a call that is traced: the moments of its requests, and the spans of their batches. Event loop.

A request has four moments, each of which begins a part of its time: `wait` in the queue, `batch` closed, `compute` on
the device, `encode` of the reply. Its span ends when the reply is written. The only request of most calls is told in
the span of the call; each request of a stream has a span of its own, below that of the stream. Of a request that is
drawn in many parts the first `_MAX_PARTS` are noted, so that it takes no memory.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from samplerd_server.core.errors import Code
from samplerd_server.process.tracing import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.batching.batch_spans import BatchSpan
    from samplerd_server.batching.ticket import Reply, Ticket
    from samplerd_server.process.tracing import Parent, Tracing

__all__ = ["CallTrace", "RequestTrace", "StreamedRequest"]

_SERVER_ERRORS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
"""The codes that mark the span of a server as an error, by OpenTelemetry's conventions for gRPC."""
_MAX_PARTS = 32
_Task = TypeVar("_Task")


class RequestTrace:
    """The moments of one request."""

    __slots__ = ("batches", "events", "parts", "rows", "samples", "vocabulary")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches: list[BatchSpan] = []
        self.parts = 0
        """How often something of it was queued: once, unless it is drawn in parts."""
        self.rows = 0
        self.samples = 0
        self.vocabulary = 0
        """The largest of its parts."""

    def queued(self, ticket: Ticket) -> None:
        """Take note of a ticket of the request."""
        request: Any = ticket.request
        self.vocabulary = max(self.vocabulary, getattr(request, "target", request).source.vocab_size)
        self.samples += request.samples
        if not getattr(request, "drawn", 0):  # otherwise an earlier part of the request had the row
            self.rows += ticket.rows
        self.parts += 1
        if self.parts > _MAX_PARTS:
            return
        ticket.is_traced = True
        self.events.append(Event("wait", time.monotonic(), {}))
        ticket.reply.add_done_callback(lambda reply: self._answered(ticket, reply))

    def _answered(self, ticket: Ticket, reply: Reply) -> None:
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


class StreamedRequest(RequestTrace):
    """One request of a stream, with its span."""

    __slots__ = ("_began_s", "_stream", "_tracing")

    def __init__(self, tracing: Tracing, stream: Any, began_s: float) -> None:
        super().__init__()
        self._tracing = tracing
        self._stream = stream
        self._began_s = began_s

    def submit(self, submit: Callable[..., _Task], *arguments: Any) -> _Task:
        """Submit the request, and take what is queued meanwhile, or later by a task that this starts, for its own."""
        before = _STREAMED.set(self)
        try:
            return submit(*arguments)
        finally:
            _STREAMED.reset(before)

    def end(self, request_id: object, code: Code) -> None:
        """Make its span: its reply has been written, or nobody reads it.

        Args:
            request_id: the id that its client gave it.
            code: what it was answered with.

        """
        attributes = {
            "rpc.grpc.status_code": int(code),
            # A uint64, which no integer of OpenTelemetry holds.
            "samplerd.request.id": str(request_id),
            "samplerd.rows": self.rows,
            "samplerd.samples": self.samples,
            "samplerd.vocabulary": self.vocabulary,
        }
        self._tracing.streamed(
            self._stream,
            attributes,
            began_s=self._began_s,
            events=self.events,
            batches=self.batches,
            is_error=code in _SERVER_ERRORS,
        )


class CallTrace:
    """What is noted of one call."""

    __slots__ = ("_began_s", "_tracing", "only", "parent", "stream", "vocabulary")

    def __init__(self, tracing: Tracing, parent: Parent, began_s: float) -> None:
        self._tracing = tracing
        self._began_s = began_s
        self.parent = parent
        self.only = RequestTrace()
        """The request of a call that is no stream."""
        self.stream: Any = None
        """The span of a stream, which is begun before those of its requests; None = the call is none."""
        self.vocabulary = 0
        """The largest of all requests."""

    def queued(self, ticket: Ticket) -> None:
        """Take note of a ticket of the call."""
        request = self.only if self.stream is None else _STREAMED.get()
        request.queued(ticket)
        self.vocabulary = max(self.vocabulary, request.vocabulary)

    def streamed(self, began_s: float) -> StreamedRequest:
        """Take note of a request of a stream that came at this time, on the monotonic clock."""
        if self.stream is None:
            self.stream = self._tracing.begin_stream(self.parent, self._began_s)
        return StreamedRequest(self._tracing, self.stream, began_s)

    def end(self, path: str, attributes: dict[str, Any], code: Code) -> str:
        """Make the span of the call, which has ended just now; returns the id of its trace in 32 hexadecimal digits."""
        return self._tracing.call(
            path,
            self.parent,
            {**attributes, "rpc.grpc.status_code": int(code), "samplerd.vocabulary": self.vocabulary},
            began_s=self._began_s,
            events=self.only.events,
            batches=self.only.batches,
            is_error=code in _SERVER_ERRORS,
            stream=self.stream,
        )


_STREAMED: ContextVar[StreamedRequest] = ContextVar("STREAMED")
"""The request of a stream that is being queued."""
