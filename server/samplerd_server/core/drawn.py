"""What was drawn since the start, as the Open Inference Protocol tells it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Drawn"]


class Drawn(NamedTuple):
    """Sums over all batches."""

    rows: int
    batches: int
    waits: int
    """Requests that have waited in the queue."""
    wait_s: float
    """Seconds that they have waited in all."""
    compute_s: float
    """Seconds that the device has computed."""
