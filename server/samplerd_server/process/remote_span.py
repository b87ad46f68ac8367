"""The span of a batch that another process has made. OpenTelemetry is imported only where there is one."""

from __future__ import annotations

from samplerd_server.process.tracing import BatchSpan

__all__ = ["remote_batch_span"]

_SAMPLED = 1


def remote_batch_span(trace_id: int, span_id: int, began_s: float) -> BatchSpan:
    """Give the span, so that calls can be linked to it; its batch began to compute at a time on the monotonic clock."""
    from opentelemetry import trace  # noqa: PLC0415  # an extra

    context = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(_SAMPLED))  # noqa: FBT003  # is_remote
    batch = BatchSpan(trace.NonRecordingSpan(context))
    batch.began_s = began_s
    return batch
