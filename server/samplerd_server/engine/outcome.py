"""The outcome of a batch, as the device thread passes it to the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from samplerd_server.sampling.rows import DraftVerdict, RowResults

__all__ = ["Outcome"]


class Outcome(NamedTuple):
    """The outcome of a batch."""

    results: RowResults | tuple[DraftVerdict, ...] | None
    """The results of a batch of rows, or one verdict per sequence of a DraftBatch. None: see `has_failed`."""
    compute_s: float
    """Seconds that the sampler took, without those in which a batch before it was still being drawn."""
    has_failed: bool = False
    """Whether the sampler raised, which is a bug; the cause is in the log. If not, and there are no results, the
    next slice of a ResumedDraw or ResumedDraft goes on."""
    began_s: float = 0.0
    """When the sampler began, on the monotonic clock."""
    thread_s: float | None = None
    """Processor time of the thread that drew, in seconds: without what it waited for the interpreter's lock, for a core
    and for the threads that helped it. None = not measured."""
