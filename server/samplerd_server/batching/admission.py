"""Admission: which requests may enter the queue, by its rows, its bytes and the predicted time of the answer.

A request that may not enter is refused at once, with a hint when to try again. Runs on the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.core.errors import (
    DRAIN_RETRY_S,
    DeadlineError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from samplerd_server.batching.cost_model import CostModel
    from samplerd_server.batching.policy import DeviceState
    from samplerd_server.batching.queue import TicketQueue
    from samplerd_server.batching.slicer import Slicer
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import AdmissionConfig

__all__ = ["Admission"]

_RETRY_LOW_S, _RETRY_HIGH_S = 0.005, 5.0
"""Bounds of the retry hint: a client that retries sooner finds the same batch still running."""


class Admission:
    """Admits requests to the queue, or refuses them."""

    def __init__(
        self,
        config: AdmissionConfig,
        *,
        queue: TicketQueue,
        slicer: Slicer,
        device: DeviceState,
        cost_model: CostModel,
    ) -> None:
        self._config = config
        self._device = device
        self._queue = queue
        self._slicer = slicer
        self._cost_model = cost_model
        self.is_open = True
        """Whether new requests are admitted."""
        self._closed_at = 0.0
        self._is_leaving = False
        self.stalled = ""
        """Why the device makes no progress; empty = it does."""

    @property
    def is_ready(self) -> bool:
        """Whether new callers should come here."""
        return self.is_open and not self._is_leaving

    def leave(self) -> None:
        """Say that the server is not ready, because it drains soon."""
        self._is_leaving = True

    def stall(self, why: str) -> None:
        """Refuse every new request from now on, because the device makes no progress."""
        self.is_open, self.stalled = False, why

    def close(self, now: float) -> None:
        """Refuse every new request from now on, because the server drains."""
        self.is_open, self._closed_at = False, now

    def check(self, ticket: Ticket, now: float) -> None:
        """Return if a ticket may enter the queue; raise otherwise.

        Raises:
            UnavailableError: the server is draining.
            DeadlineError: the deadline has already passed.
            InvalidRequestError: the request alone is larger than the whole queue.
            OverloadedError: the queue is full, or the answer would come after the deadline.

        """
        rows, size = ticket.rows, ticket.held_bytes
        if self.stalled:
            raise UnavailableError(f"{self.stalled}; ask another server", reason="DEVICE_STALLED")
        if not self.is_open:
            # Connections close once what is in flight is answered, which nobody knows beforehand. So that a client's
            # four attempts outlast a long drain, and a short one costs it little, the hint grows with the drain.
            retry_after_s = min(_RETRY_HIGH_S, DRAIN_RETRY_S + 2 * (now - self._closed_at))
            raise UnavailableError("the server is draining; ask another one", retry_after_s=retry_after_s)
        if ticket.is_expired(now):
            raise DeadlineError("the deadline had passed on arrival")
        if rows > self._config.queue_rows:
            raise InvalidRequestError("source", f"{rows} rows are more than the queue holds")
        if size > self._config.queue_bytes:
            raise InvalidRequestError("source", f"{size} bytes are more than the queue holds")
        waiting = self._queue.rows + self._slicer.rows
        if waiting + rows > self._config.queue_rows:
            raise self._overloaded("queue_rows", f"the queue is full: {waiting} rows wait", now)
        waiting = self._queue.bytes + self._slicer.bytes
        if waiting + size > self._config.queue_bytes:
            raise self._overloaded("queue_bytes", f"the queue is full: {waiting} bytes wait", now)
        if ticket.deadline != NO_DEADLINE or self._config.max_queue_wait_s:
            self._check_time(ticket, now)

    def _check_time(self, ticket: Ticket, now: float) -> None:
        """Refuse a ticket that would wait too long; long requests wait for others, but others not for them."""
        work, is_waited_for = float(self._queue.work), len(self._queue) > 0
        if self._slicer.is_long(ticket):
            work, is_waited_for = work + self._slicer.work, is_waited_for or len(self._slicer) > 0
        limit_s = self._config.max_queue_wait_s
        device_s = self._device.left_s(now)
        wait_s = device_s + (self._cost_model.predict(work) if is_waited_for else 0.0)
        if limit_s and wait_s > limit_s:
            raise self._overloaded("queue_wait", f"the queue is full: it takes {wait_s:.3f} s", now)
        # What the request itself takes does not count in an empty queue: its batch then corrects a wrong prediction,
        # which would otherwise refuse such requests for ever. What is on the device ends in any case.
        if is_waited_for:
            wait_s = device_s + self._cost_model.predict(work + ticket.work)
        if now + wait_s > ticket.deadline:
            raise self._overloaded("deadline", f"the queue takes {wait_s:.3f} s, which is past the deadline", now)

    def _overloaded(self, reason: str, message: str, now: float) -> OverloadedError:
        drained_s = self._device.left_s(now) + self._cost_model.predict(self._queue.work + self._slicer.work)
        return OverloadedError(message, reason=reason, retry_after_s=min(max(drained_s, _RETRY_LOW_S), _RETRY_HIGH_S))
