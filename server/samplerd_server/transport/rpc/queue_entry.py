"""The entry to the queue of this process: a ticket is admitted or refused, counted, and queued. Event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from samplerd_server.core.errors import OverloadedError, SamplerdError, UnavailableError
from samplerd_server.core.request import SampleRequest
from samplerd_server.transport.rpc.workload import Workload

if TYPE_CHECKING:
    from asyncio import Future

    from samplerd_server.batching.admission import Admission
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.batching.gate import Gate
    from samplerd_server.batching.sweeper import Sweeper
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["QueueEntry"]


class QueueEntry:
    """Admits tickets and queues them."""

    def __init__(
        self, admission: Admission, batcher: Batcher, sweeper: Sweeper, metrics: Metrics, *, batch_rows: int
    ) -> None:
        """Take what it needs; `batch_rows`: the most rows of a batch."""
        self._admission = admission
        self._batcher = batcher
        self._sweeper = sweeper
        self._metrics = metrics
        self._batch_rows = batch_rows
        self._workload = Workload(metrics)

    @property
    def gate(self) -> Gate:
        """What refuses every request once the server drains."""
        return self._admission.gate

    def take(self, ticket: Ticket, identity: str, *, is_admitted: bool = False) -> None:
        """Admit a ticket, bring its rows in, and queue it; its reply is resolved once its batch has run.

        Args:
            ticket: what is asked for.
            identity: who calls, for the counts of each caller; empty = nobody known.
            is_admitted: whether it is a further part of a request that was admitted with its first part.

        Raises:
            SamplerdError: it was not admitted, or its rows could not be brought in.

        """
        request = ticket.request
        if not is_admitted:
            self._admit(ticket, identity)
            if isinstance(request, SampleRequest) and request.load is not None:
                request.load()
        self._batcher.enqueue(ticket)
        ticket.reply.add_done_callback(self._on_done)

    def take_joint(self, ticket: Ticket, identity: str) -> bool:
        """Queue a ticket that stands for several requests, if the next batch has room for it and it is admitted.

        A batch that is too small for all gives every connection a share in rows, of which a joint request would take
        all or nothing.

        Returns:
            Whether it was queued. If not, nothing was counted: each of its requests is to be queued by itself.

        """
        if self._admission.waiting_rows + ticket.rows > self._batch_rows:
            return False
        try:
            self._admission.check(ticket, time.monotonic())
        except SamplerdError:
            return False
        self._count(ticket, identity)
        self._batcher.enqueue(ticket)
        ticket.reply.add_done_callback(self._on_done)
        return True

    def _on_done(self, reply: Future[Any]) -> None:
        """Give a cancelled ticket's place in the queue back."""
        if reply.cancelled():
            self._sweeper.soon()

    def _admit(self, ticket: Ticket, identity: str) -> None:
        try:
            self._admission.check(ticket, time.monotonic())
        except OverloadedError as error:
            self._metrics.shed.add(1, error.reason)
            if identity:
                self._metrics.identity_refusals.add(1, self._metrics.identity_label(identity), error.code.name)
            raise
        except UnavailableError:
            self._metrics.shed.add(1, "draining")
            raise
        self._count(ticket, identity)

    def _count(self, ticket: Ticket, identity: str) -> None:
        self._workload.count(ticket.request)
        if identity:
            self._metrics.identity_rows.add(ticket.request.rows, self._metrics.identity_label(identity))
