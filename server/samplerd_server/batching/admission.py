"""Admission: which requests may enter the queue, by its rows, its bytes and the predicted time of the answer.

A request that may not enter is refused at once, with a hint when to try again. Runs on the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.batching.gate import RETRY_HIGH_S, Gate
from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.core.errors import DeadlineError, InvalidRequestError, OverloadedError

if TYPE_CHECKING:
    from samplerd_server.batching.cost_model import CostModel
    from samplerd_server.batching.policy import DeviceState
    from samplerd_server.batching.queue import TicketQueue
    from samplerd_server.batching.slicer import Slicer
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import AdmissionConfig

__all__ = ["Admission"]

_RETRY_LOW_S = 0.005
"""The shortest hint when to try again: a client that retries sooner finds the same batch still running."""


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
        self.gate = Gate()
        """Whether new requests are taken at all."""

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for the next batches."""
        return self._queue.rows

    def check(self, ticket: Ticket, now: float) -> None:
        """Return if a ticket may enter the queue; raise otherwise.

        Raises:
            UnavailableError: the server is draining.
            DeadlineError: the deadline has already passed.
            InvalidRequestError: the request alone is larger than the whole queue.
            OverloadedError: the queue is full, or the answer would come after the deadline.

        """
        rows, size = ticket.rows, ticket.held_bytes
        self.gate.check(now)
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
        return OverloadedError(message, reason=reason, retry_after_s=min(max(drained_s, _RETRY_LOW_S), RETRY_HIGH_S))
