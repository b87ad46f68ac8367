"""Submits requests to the queue: each is admitted or refused, and gets a ticket that carries its reply. Event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from samplerd_server.batching.ticket import Ticket
from samplerd_server.core.errors import OverloadedError, UnavailableError
from samplerd_server.transport.rpc.arrival import current_record
from samplerd_server.transport.rpc.caller import CALLER
from samplerd_server.transport.rpc.workload import Workload

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from samplerd_server.batching.admission import Admission
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.batching.sweeper import Sweeper
    from samplerd_server.batching.ticket import Reply
    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["Submitter"]


class Submitter:
    """Admits requests and queues them.

    Every method takes when the request arrived and when it is due, in seconds on the monotonic clock, and whose fair
    share of the queue it counts against. Cancel the future that it returns when nobody waits any more.
    """

    def __init__(
        self,
        admission: Admission,
        batcher: Batcher,
        sweeper: Sweeper,
        metrics: Metrics,
        loop: AbstractEventLoop,
        *,
        has_records: bool = False,
    ) -> None:
        """Take what it needs; `has_records`: calls may have records, in which their requests are noted."""
        self._has_records = has_records
        self._admission = admission
        self._batcher = batcher
        self._sweeper = sweeper
        self._metrics = metrics
        self._workload = Workload(metrics)
        self._loop = loop

    @property
    def is_open(self) -> bool:
        """Whether new requests are taken: they are until the server drains."""
        return self._admission.is_open

    @property
    def is_ready(self) -> bool:
        """Whether new callers should come: they should until the server ends."""
        return self._admission.is_ready

    def leave(self) -> None:
        """Say that the server is not ready, and admit requests all the same."""
        self._admission.leave()

    def close(self) -> None:
        """Refuse new requests."""
        self._admission.close(time.monotonic())

    def submit(self, request: SampleRequest, arrival: float, deadline: float, connection: str) -> Future[SampleResult]:
        """Admit a request and queue it; the future resolves to its result.

        Raises:
            SamplerdError: it was not admitted, or its rows could not be brought in.

        """
        reply: Future[SampleResult] = self._loop.create_future()
        self.submit_to(reply, request, arrival, deadline, connection)
        return reply

    def submit_to(self, reply: Reply, request: SampleRequest, arrival: float, deadline: float, connection: str) -> None:
        """Admit a request and queue it; `reply` is resolved to its result.

        Raises:
            SamplerdError: it was not admitted, or its rows could not be brought in.

        """
        ticket = Ticket(request, arrival, deadline, connection, reply)
        self._admit(ticket)
        if request.load is not None:
            request.load()
        self._enqueue(ticket)

    def submit_part(
        self, part: SampleRequest, deadline: float, connection: str, *, is_first: bool
    ) -> Future[SampleResult]:
        """Queue a part of a request that arrives now; the request is admitted with its first part.

        Raises:
            SamplerdError: it was not admitted.

        """
        reply: Future[SampleResult] = self._loop.create_future()
        ticket = Ticket(part, time.monotonic(), deadline, connection, reply)
        if is_first:
            self._admit(ticket)
        self._enqueue(ticket)
        return reply

    def submit_draft(
        self, request: VerifyRequest, arrival: float, deadline: float, connection: str
    ) -> Future[VerifyResult]:
        """Admit a draft and queue it; the future resolves to its verdict.

        Raises:
            SamplerdError: it was not admitted.

        """
        reply: Future[VerifyResult] = self._loop.create_future()
        self.submit_draft_to(reply, request, arrival, deadline, connection)
        return reply

    def submit_draft_to(
        self, reply: Reply, request: VerifyRequest, arrival: float, deadline: float, connection: str
    ) -> None:
        """Admit a draft and queue it; `reply` is resolved to its verdict.

        Raises:
            SamplerdError: it was not admitted.

        """
        ticket = Ticket(request, arrival, deadline, connection, reply)
        self._admit(ticket)
        self._enqueue(ticket)

    def _enqueue(self, ticket: Ticket) -> None:
        self._batcher.enqueue(ticket)
        if self._has_records and (record := current_record()) is not None:
            record.queued(ticket)
        ticket.reply.add_done_callback(self._on_done)

    def _on_done(self, reply: Reply) -> None:
        """Give a cancelled ticket's place in the queue back."""
        if reply.cancelled():
            self._sweeper.soon()

    def _admit(self, ticket: Ticket) -> None:
        try:
            self._admission.check(ticket, time.monotonic())
        except OverloadedError as error:
            self._metrics.shed.add(1, error.reason)
            if identity := CALLER.get():
                self._metrics.identity_refusals.add(1, self._metrics.identity_label(identity), error.code.name)
            raise
        except UnavailableError:
            self._metrics.shed.add(1, "draining")
            raise
        self._workload.count(ticket.request)
        if identity := CALLER.get():
            self._metrics.identity_rows.add(ticket.request.rows, self._metrics.identity_label(identity))
