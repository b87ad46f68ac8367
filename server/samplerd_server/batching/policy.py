"""When to close a batch. Pure: the state of queue and device and the time go in, a decision comes out.

Work-conserving: an idle device takes whatever waits. While it runs a batch the next one gathers; exactly one batch may
be closed ahead, and only once it is as large as the one that runs, so that closing early costs no batching. Only an
idle device is ever made to wait, for `max_queue_delay` after the oldest arrival, and never past a deadline.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Close", "DeviceState", "QueueState", "Wait", "decide"]

Reason = Literal["full", "idle", "delay", "deadline"]


class QueueState(NamedTuple):
    """What waits."""

    rows: int
    bytes: int
    oldest_arrival: float
    """Only looked at with a max_queue_delay."""
    nearest_deadline: float
    """Only looked at with a max_queue_delay."""


class DeviceState(NamedTuple):
    """What runs."""

    batches: int
    """0 = idle, 1 = running, 2 = running with one closed ahead."""
    rows: int
    """Rows of the batches counted above."""


class Close(NamedTuple):
    """Close a batch now."""

    reason: Reason


class Wait(NamedTuple):
    """Do nothing until something arrives or finishes, or until `until`."""

    until: float | None = None


def decide(
    now: float, queue: QueueState, device: DeviceState, *, max_rows: int, max_bytes: int, max_queue_delay_s: float
) -> Close | Wait:
    """Close a batch now, or say what to wait for.

    Args:
        now: the time, seconds on the clock of `QueueState`.
        queue: what waits.
        device: what runs.
        max_rows: rows of a full batch.
        max_bytes: bytes of a full batch.
        max_queue_delay_s: how long an idle device may be made to wait.

    """
    if queue.rows == 0 or device.batches >= 2:
        return Wait()
    is_full = queue.rows >= max_rows or queue.bytes >= max_bytes
    if is_full:
        return Close("full")
    if device.batches == 1:
        return Close("idle") if queue.rows >= device.rows else Wait()
    if max_queue_delay_s == 0.0:
        return Close("idle")
    full_delay = queue.oldest_arrival + max_queue_delay_s
    # Half of what is left until the deadline is kept for the computation and the way back.
    near_deadline = now + (queue.nearest_deadline - now) / 2
    if now >= full_delay:
        return Close("delay")
    if near_deadline <= min(full_delay, now + max_queue_delay_s / 8):
        return Close("deadline")
    return Wait(min(full_delay, near_deadline))
