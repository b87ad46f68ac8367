"""Who may enter the queue: bounded permits in rows and bytes, and no request that is bound to be late.

Refuses at the door, at once, with a hint when to come back. Event loop; pure but for its own counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.core.errors import DeadlineError, InvalidRequestError, OverloadedError, UnavailableError

if TYPE_CHECKING:
    from samplerd_server.batching.costs import CostModel
    from samplerd_server.batching.pending import Pending
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import AdmissionConfig

__all__ = ["Admission"]

_RETRY_LOW_S, _RETRY_HIGH_S = 0.005, 5.0
"""Bounds of the retry hint: a client that comes back sooner finds the same batch running."""


class Admission:
    """The door."""

    def __init__(self, config: AdmissionConfig, pending: Pending, costs: CostModel) -> None:
        self._config = config
        self._pending = pending
        self._costs = costs
        self.is_open = True
        """Whether anything new is let in."""

    def close(self) -> None:
        """Refuse everything from now on: the server drains."""
        self.is_open = False

    def check(self, ticket: Ticket, now: float) -> None:
        """Let a ticket in, or raise.

        Raises:
            UnavailableError: the server drains.
            DeadlineError: the deadline has already passed.
            InvalidRequestError: the request alone is larger than the whole queue.
            OverloadedError: the queue is full, or the answer would come after the deadline.

        """
        rows, size = ticket.rows, ticket.size_bytes
        if not self.is_open:
            raise UnavailableError("the server is draining; ask another one")
        if ticket.is_expired(now):
            raise DeadlineError("the deadline had passed on arrival")
        if rows > self._config.queue_rows:
            raise InvalidRequestError("source", f"{rows} rows are more than the queue holds")
        if size > self._config.queue_bytes:
            raise InvalidRequestError("source", f"{size} bytes are more than the queue holds")
        if self._pending.rows + rows > self._config.queue_rows:
            raise self._overloaded("queue_rows", f"the queue is full: {self._pending.rows} rows wait")
        if self._pending.bytes + size > self._config.queue_bytes:
            raise self._overloaded("queue_bytes", f"the queue is full: {self._pending.bytes} bytes wait")
        # An empty queue lets anybody in, so that a prediction that is wrong gets corrected rather than kept.
        if ticket.deadline == NO_DEADLINE or not len(self._pending):
            return
        wait = self._costs.predict(self._pending.work + ticket.work)
        if now + wait > ticket.deadline:
            raise self._overloaded("deadline", f"the queue takes {wait:.3f} s, which is past the deadline")

    def _overloaded(self, reason: str, message: str) -> OverloadedError:
        drained = self._costs.predict(self._pending.work)
        return OverloadedError(message, reason=reason, retry_after_s=min(max(drained, _RETRY_LOW_S), _RETRY_HIGH_S))
