"""When to close a batch. Pure: the state of queue and device and the time go in, a decision comes out.

Work-conserving: an idle device takes whatever waits. While it runs a batch the next one gathers; exactly one batch may
be closed ahead, and only once it is as large as the one that runs, so that closing early costs no batching. Only an
idle device is ever made to wait, for `max_queue_delay` after the oldest arrival, and never past a deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

if TYPE_CHECKING:
    from samplerd_server.config import BatchingConfig

__all__ = ["REASONS", "Close", "DeviceState", "Queue", "Wait", "decide"]

Reason = Literal["full", "idle", "delay", "deadline"]
REASONS: tuple[str, ...] = get_args(Reason)
"""Why a batch is closed."""


class Queue(Protocol):
    """What waits, as far as the policy looks."""

    rows: int
    bytes: int

    def oldest_arrival(self) -> float:
        """When the ticket that has waited longest came; only asked with a max_queue_delay."""
        ...

    def nearest_deadline(self) -> float:
        """When the first of the tickets is due; only asked with a max_queue_delay."""
        ...


class DeviceState:
    """What runs. The batcher's own, and changed by it."""

    __slots__ = ("batches", "rows")

    def __init__(self, batches: int = 0, rows: int = 0) -> None:
        self.batches = batches
        """0 = idle, 1 = running, 2 = running with one closed ahead."""
        self.rows = rows
        """Rows of the batches counted above."""


class Close(NamedTuple):
    """Close a batch now."""

    reason: Reason


class Wait(NamedTuple):
    """Do nothing until something arrives or finishes, or until `until`."""

    until: float | None = None


# Made once: a decision is taken for every batch.
_WAIT = Wait()
_FULL, _IDLE, _DELAY, _DEADLINE = Close("full"), Close("idle"), Close("delay"), Close("deadline")


def decide(now: float, queue: Queue, device: DeviceState, config: BatchingConfig) -> Close | Wait:
    """Close a batch now, or say what to wait for.

    Args:
        now: the time, seconds on the clock of the queue's times.
        queue: what waits.
        device: what runs.
        config: `max_rows` and `max_bytes` of a full batch, and `max_queue_delay_s`, how long an idle device may be made
            to wait.

    """
    if queue.rows == 0 or device.batches >= 2:
        return _WAIT
    if queue.rows >= config.max_rows or queue.bytes >= config.max_bytes:
        return _FULL
    if device.batches == 1:
        return _IDLE if queue.rows >= device.rows else _WAIT
    delay = config.max_queue_delay_s
    if delay == 0.0:
        return _IDLE
    full_delay = queue.oldest_arrival() + delay
    # Half of what is left until the deadline is kept for the computation and the way back.
    near_deadline = now + (queue.nearest_deadline() - now) / 2
    if now >= full_delay:
        return _DELAY
    if near_deadline <= min(full_delay, now + delay / 8):
        return _DEADLINE
    return Wait(min(full_delay, near_deadline))
