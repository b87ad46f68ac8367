"""When to close a batch. Pure: the state of queue and device and the time go in, a decision comes out.

Work-conserving: an idle device gets whatever waits in the queue. While the device runs a batch, the queue fills;
exactly one batch may be closed ahead, and only once it is as large as the running one, so that closing early costs no
batching. An idle device is made to wait only for `max_queue_delay` after the oldest arrival, and never past a deadline.

A slice of a long request starts on an idle device only, and nothing is closed ahead behind it, so that whoever arrives
while it runs is in the next batch. After a slice, batches of other requests run first, for as long as the slice took
times the connections that waited then; so each connection has an even share of the device.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

if TYPE_CHECKING:
    from samplerd_server.config import BatchingConfig

__all__ = ["REASONS", "Close", "DeviceState", "Queue", "Wait", "decide", "is_slice_next"]

Reason = Literal["full", "idle", "delay", "deadline", "slice"]
REASONS: tuple[str, ...] = get_args(Reason)
"""Why a batch is closed."""


class Queue(Protocol):
    """The part of the queue that the policy looks at."""

    rows: int
    bytes: int

    def oldest_arrival(self) -> float:
        """Arrival of the ticket that has waited longest; only used with a max_queue_delay."""
        ...

    def nearest_deadline(self) -> float:
        """Deadline of the ticket that is due first; only used with a max_queue_delay."""
        ...


class DeviceState:
    """Batches on the device. Owned and changed by the batcher."""

    __slots__ = ("_began", "_predicted_s", "batches", "credit_s", "is_slicing", "rows")

    def __init__(self, batches: int = 0, rows: int = 0) -> None:
        self.batches = batches
        """0 = idle, 1 = running, 2 = running with one closed ahead."""
        self.rows = rows
        """Rows of those batches."""
        self.is_slicing = False
        """Whether the running one is a slice of a long request."""
        self.credit_s = 0.0
        """Seconds that batches may still run before the next slice."""
        self._predicted_s: deque[float] = deque()
        """Seconds that each of the batches was predicted to take; the running one is first."""
        self._began = 0.0

    def begin(self, now: float, predicted_s: float) -> None:
        """Note that a batch, which is predicted to take this long, runs after those before it."""
        if not self._predicted_s:
            self._began = now
        self._predicted_s.append(predicted_s)

    def finish(self, now: float) -> None:
        """Note that the running batch has finished, and the next one begins."""
        self._predicted_s.popleft()
        self._began = now

    def left_s(self, now: float) -> float:
        """Predict the seconds until the device has finished what it was given."""
        predicted_s = self._predicted_s
        if not predicted_s:
            return 0.0
        # A batch that takes longer than predicted may end at any moment.
        return sum(predicted_s) - min(predicted_s[0], now - self._began)


class Close(NamedTuple):
    """Close a batch now."""

    reason: Reason


class Wait(NamedTuple):
    """Do nothing until a ticket arrives, a batch finishes, or the time is `until`."""

    until: float | None = None


# Constants, because a decision is made for every batch.
_WAIT = Wait()
_FULL, _IDLE, _DELAY, _DEADLINE = Close("full"), Close("idle"), Close("delay"), Close("deadline")


def decide(now: float, queue: Queue, device: DeviceState, config: BatchingConfig) -> Close | Wait:
    """Close a batch now, or say what to wait for.

    Args:
        now: the time, in seconds on the clock of the tickets' arrivals.
        queue: the waiting tickets.
        device: the batches on the device.
        config: `max_rows` and `max_bytes` of a full batch, and `max_queue_delay_s`, the longest time that an idle
            device is made to wait.

    """
    if queue.rows == 0 or device.batches >= 2 or device.is_slicing:
        return _WAIT
    if queue.rows >= config.max_rows or queue.bytes >= config.max_bytes:
        return _FULL
    if device.batches == 1:
        return _IDLE if queue.rows >= device.rows else _WAIT
    delay = config.max_queue_delay_s
    if delay == 0.0:
        return _IDLE
    full_delay = queue.oldest_arrival() + delay
    # Half of the time left until the deadline is reserved for the computation and the reply.
    near_deadline = now + (queue.nearest_deadline() - now) / 2
    if now >= full_delay:
        return _DELAY
    if near_deadline <= min(full_delay, now + delay / 8):
        return _DEADLINE
    return Wait(min(full_delay, near_deadline))


def is_slice_next(queue: Queue, device: DeviceState) -> bool:
    """Tell whether the next to run is a slice, given that a long request waits for one."""
    return queue.rows == 0 or device.credit_s <= 0.0
