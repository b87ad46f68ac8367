"""Traces: spans of calls and of batches, exported as OTLP over HTTP by OpenTelemetry's SDK, an extra.

Rule 1: nothing of OpenTelemetry is imported unless tracing is on. Rule 2: whether a call is traced is decided here, and
before any span is made: a call that is not costs one look at its metadata. It follows its caller's decision
(``traceparent``), or else a share is chosen at random. Rule 3: spans wait in a bounded queue and are sent by a thread;
those that find no room are dropped. What the SDK reads from ``OTEL_*`` variables (headers, certificates, sizes of the
queue, attributes of the resource) holds.
"""

from __future__ import annotations

import math
import os
import random
import re
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from samplerd_server.config import ConfigError
from samplerd_server.core.named_thread import NamedThread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.config import ServerConfig

__all__ = ["BatchSpan", "Event", "Parent", "Tracing", "make_tracing"]

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=([ -+\--<>-~]{0,255}[!-+\--<>-~])"
)
_MAX_MEMBERS = 32
_PATH = "/v1/traces"
_SAMPLED = 1
_LEAST_S = 1.0
"""How long the last spans are sent at the end of a drain that has taken all of its grace."""
_CLOCK_S = 10.0
"""Seconds between two looks at how the clocks differ."""


class Parent(NamedTuple):
    """The span of the caller, as W3C's trace context tells it."""

    trace_id: int
    """0 = the caller has none: the call begins a trace."""
    span_id: int = 0
    state: str = ""
    """``tracestate``, handed on as it is."""


class Event(NamedTuple):
    """A moment of a call."""

    name: str
    time_s: float
    """On the monotonic clock."""
    values: dict[str, float]


class BatchSpan:
    """The span of a batch, and when its computation began."""

    __slots__ = ("began_s", "span")

    def __init__(self, span: Any) -> None:
        self.span = span
        self.began_s = 0.0
        """On the monotonic clock; 0 = it has not been computed."""


def read_parent(traceparent: str) -> tuple[Parent, bool] | None:
    """Read the header ``traceparent``: the parent, and whether its trace is sampled; None = it is malformed.

    Source: the W3C recommendation Trace Context, section 3.2. A malformed header counts as absent, as it says.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return (Parent(trace_id, span_id), bool(int(match[4], 16) & _SAMPLED)) if trace_id and span_id else None


def read_state(tracestate: str) -> list[tuple[str, str]]:
    """Read the header ``tracestate``: its members; none if it is malformed.

    Source: as above, section 3.3. OpenTelemetry would log what is malformed, which is text that a client chose.
    """
    members = [own for part in tracestate.split(",") if (own := part.strip(" \t"))]
    pairs = [(match[1], match[2]) for own in members if (match := _MEMBER.fullmatch(own))]
    is_good = len(dict(pairs)) == len(members) <= _MAX_MEMBERS
    return pairs if is_good else []


class Tracing:
    """Decides which calls are traced, and makes their spans and those of their batches."""

    def __init__(self, share: float, provider: Any, device: str) -> None:
        """Take the share of calls without a parent that are traced, OpenTelemetry's provider, and the device's name."""
        from opentelemetry import trace  # noqa: PLC0415  # see Rule 1

        self._share = share
        self._provider = provider
        self._device = device
        self._api = trace
        self._tracer = provider.get_tracer("samplerd")
        self._epoch_ns = 0
        """When the monotonic clock was 0, in nanoseconds since the epoch."""
        self._clock_read_at = -math.inf

    def decide(self, traceparent: str, tracestate: str) -> Parent | None:
        """Give the parent of a call that is traced; None = it is not."""
        self._set_clock()
        found = read_parent(traceparent) if traceparent else None
        if found is not None:
            parent, is_sampled = found
            return parent._replace(state=tracestate) if is_sampled else None
        return _ROOT if random.random() < self._share else None  # noqa: S311  # no secret

    def begin_batch(self, rows: int, callers: int, closed: str, formed_s: float) -> BatchSpan:
        """Begin the span of a batch, which is the root of a trace of its own: its calls are of many traces."""
        self._set_clock()
        attributes = {
            "samplerd.batch.rows": rows,
            "samplerd.batch.callers": callers,
            "samplerd.batch.closed": closed,
            "samplerd.device": self._device,
        }
        context = self._api.set_span_in_context(self._api.INVALID_SPAN)
        return BatchSpan(
            self._tracer.start_span("batch", context, attributes=attributes, start_time=self._ns(formed_s))
        )

    def end_batch(self, batch: Any, began_s: float, compute_s: float) -> None:
        """End the span of a batch whose computation began at a time and took so long."""
        batch.began_s = began_s
        batch.span.add_event("compute", {"seconds": compute_s}, self._ns(began_s))
        batch.span.end(self._ns(time.monotonic()))

    def begin_stream(self, parent: Parent, began_s: float) -> Any:
        """Begin the span of a stream whose call the transport had at a time; `call` ends it."""
        context = self._context_of(parent)
        kind = self._api.SpanKind.SERVER
        return self._tracer.start_span("stream", context, kind=kind, start_time=self._ns(began_s))

    def streamed(
        self,
        stream: Any,
        attributes: dict[str, Any],
        *,
        began_s: float,
        events: Sequence[Event],
        batches: Sequence[Any],
        is_error: bool,
    ) -> None:
        """Make the span of a request of a stream that has ended just now; `stream` is that of `begin_stream`."""
        span = self._tracer.start_span(
            "request",
            self._api.set_span_in_context(stream),
            attributes=attributes,
            links=self._links(batches),
            start_time=self._ns(began_s),
        )
        self._end(span, events, is_error=is_error)

    def call(
        self,
        path: str,
        parent: Parent,
        attributes: dict[str, Any],
        *,
        began_s: float,
        events: Sequence[Event],
        batches: Sequence[Any],
        is_error: bool,
        stream: Any = None,
    ) -> str:
        """Make the span of a call that has ended just now.

        Args:
            path: that of the RPC: /SERVICE/METHOD.
            parent: what `decide` gave.
            attributes: further attributes.
            began_s: when the transport had the call, on the monotonic clock.
            events: in order.
            batches: the spans to link, of `begin_batch`.
            is_error: whether the server is to blame.
            stream: the span that was begun for a stream; None = the call is none, or nothing was asked in it.

        Returns:
            The id of its trace, in 32 hexadecimal digits.

        """
        _, service, method = path.split("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, **attributes}
        if stream is None:
            span = self._tracer.start_span(
                path[1:],
                self._context_of(parent),
                kind=self._api.SpanKind.SERVER,
                attributes=attributes,
                links=self._links(batches),
                start_time=self._ns(began_s),
            )
        else:
            span = stream
            span.update_name(path[1:])
            span.set_attributes(attributes)
        self._end(span, events, is_error=is_error)
        return f"{span.get_span_context().trace_id:032x}"

    def _context_of(self, parent: Parent) -> Any:
        api = self._api
        above = api.INVALID_SPAN
        if parent.trace_id:
            state = api.TraceState(read_state(parent.state))
            above = api.NonRecordingSpan(
                api.SpanContext(parent.trace_id, parent.span_id, True, api.TraceFlags(_SAMPLED), state)  # noqa: FBT003  # is_remote
            )
        return api.set_span_in_context(above)

    def _links(self, batches: Sequence[Any]) -> list[Any]:
        return [self._api.Link(batch.span.get_span_context()) for batch in batches]

    def _end(self, span: Any, events: Sequence[Event], *, is_error: bool) -> None:
        for event in events:
            span.add_event(event.name, event.values, self._ns(event.time_s))
        if is_error:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(self._ns(time.monotonic()))

    def _ns(self, monotonic_s: float) -> int:
        """Give the nanoseconds since the epoch of a time on the monotonic clock."""
        return self._epoch_ns + round(monotonic_s * 1e9)

    def _set_clock(self) -> None:
        """Read both clocks again, if the last time is long ago: the system's may have been adjusted."""
        now = time.monotonic()
        if now - self._clock_read_at > _CLOCK_S:
            self._clock_read_at = now
            self._epoch_ns = time.time_ns() - round(time.monotonic() * 1e9)

    def stop(self, end: float) -> None:
        """Send the spans that wait until a time on the monotonic clock, or for `_LEAST_S` if that has passed."""
        sending = NamedThread(target=self._provider.shutdown, name="samplerd-traces", daemon=True)
        sending.start()
        sending.join(max(_LEAST_S, end - time.monotonic()))


_ROOT = Parent(0)


def make_tracing(config: ServerConfig, version: str, device: str) -> Tracing | None:
    """Set up OpenTelemetry's SDK; None = tracing is off.

    Raises:
        ConfigError: the SDK cannot use a variable ``OTEL_*``.

    """
    if not config.tracing.endpoint:
        return None
    try:
        return _set_up(config, version, device)
    except ValueError as error:
        raise ConfigError(f"traces: OpenTelemetry cannot use its variables OTEL_*: {error}") from None


def _set_up(config: ServerConfig, version: str, device: str) -> Tracing:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # see Rule 1
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

    worker = "" if config.worker is None else f":{config.worker.index}"
    resource = Resource(
        {
            "service.name": "samplerd",
            "service.version": version,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}{worker}",
        }
    ).merge(OTELResourceDetector().detect())
    # Rule 2: the decision is made before. The process ends its spans itself, within the drain grace.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    url = config.tracing.endpoint
    if urlsplit(url).path in {"", "/"}:
        url = url.rstrip("/") + _PATH
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return Tracing(config.tracing.sample, provider, device)
