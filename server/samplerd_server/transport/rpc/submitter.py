"""Submits requests to the queue: each is admitted or refused, and gets a ticket that carries its reply. Event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from samplerd_server.batching.ticket import Ticket
from samplerd_server.core.errors import OverloadedError, UnavailableError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from samplerd_server.batching.admission import Admission
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["Submitter"]


class Submitter:
    """Admits requests and queues them.

    Every method takes when the request arrived and when it is due, in seconds on the monotonic clock, and whose fair
    share of the queue it counts against. Cancel the future that it returns when nobody waits any more.
    """

    def __init__(self, admission: Admission, batcher: Batcher, metrics: Metrics, loop: AbstractEventLoop) -> None:
        self._admission = admission
        self._batcher = batcher
        self._metrics = metrics
        self._loop = loop

    @property
    def is_open(self) -> bool:
        """Whether new requests are taken: they are until the server drains."""
        return self._admission.is_open

    def close(self) -> None:
        """Refuse new requests."""
        self._admission.close()

    def submit(self, request: SampleRequest, arrival: float, deadline: float, connection: str) -> Future[SampleResult]:
        """Admit a request and queue it; the future resolves to its result.

        Raises:
            SamplerdError: it was not admitted, or its rows could not be brought in.

        """
        reply: Future[SampleResult] = self._loop.create_future()
        ticket = Ticket(request, arrival, deadline, connection, reply)
        self._admit(ticket)
        if request.load is not None:
            request.load()
        self._batcher.enqueue(ticket)
        return reply

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
        self._batcher.enqueue(ticket)
        return reply

    def submit_draft(
        self, request: VerifyRequest, arrival: float, deadline: float, connection: str
    ) -> Future[VerifyResult]:
        """Admit a draft and queue it; the future resolves to its verdict.

        Raises:
            SamplerdError: it was not admitted.

        """
        reply: Future[VerifyResult] = self._loop.create_future()
        ticket = Ticket(request, arrival, deadline, connection, reply)
        self._admit(ticket)
        self._batcher.enqueue(ticket)
        return reply

    def _admit(self, ticket: Ticket) -> None:
        try:
            self._admission.check(ticket, time.monotonic())
        except OverloadedError as error:
            self._metrics.shed.add(1, error.reason)
            raise
        except UnavailableError:
            self._metrics.shed.add(1, "draining")
            raise
