"""Spans of batches, as the batcher sees them; what makes and exports them is `process/tracing.py`."""

from __future__ import annotations

from typing import Protocol

__all__ = ["BatchSpan", "BatchSpans"]


class BatchSpan(Protocol):
    """The span of one batch."""

    began_s: float
    """When its computation began, on the monotonic clock; 0 = it has not been computed."""


class BatchSpans(Protocol):
    """Makes spans."""

    def begin_batch(self, rows: int, callers: int, closed: str, formed_s: float) -> BatchSpan:
        """Begin the span of a batch of so many rows and requests, with why it was closed, and when."""
        ...

    def end_batch(self, batch: BatchSpan, began_s: float, compute_s: float) -> None:
        """End the span of a batch whose computation began at a time and took so long."""
        ...
