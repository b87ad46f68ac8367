"""Submits requests to the queue: each gets a ticket that carries its reply. Event loop.

The queue is that of this process, or of the engine that several doors share; what differs is its entry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from samplerd_server.batching.ticket import Ticket
from samplerd_server.transport.rpc.arrival import current_record
from samplerd_server.transport.rpc.caller import CALLER

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable

    from samplerd_server.batching.gate import Gate
    from samplerd_server.batching.ticket import Reply
    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult

__all__ = ["Entry", "Submitter"]


class Entry(Protocol):
    """Where tickets go: `rpc.queue_entry.QueueEntry`, or `doors.link.Link` in a door."""

    @property
    def gate(self) -> Gate:
        """What refuses every request once the server drains."""
        ...

    def take(self, ticket: Ticket, identity: str, *, is_admitted: bool = False) -> None:
        """Admit a ticket and queue it; see `QueueEntry`."""
        ...


class Submitter:
    """Makes tickets of requests, and queues them.

    Every method takes when the request arrived and when it is due, in seconds on the monotonic clock, and whose fair
    share of the queue it counts against. Cancel the future that it returns when nobody waits any more.
    """

    def __init__(self, entry: Entry, loop: AbstractEventLoop, *, has_records: bool = False) -> None:
        """Take what it needs; `has_records`: calls may have records, in which their requests are noted."""
        self._entry = entry
        self._take_joint: Callable[[Ticket, str], bool] | None = getattr(entry, "take_joint", None)
        """`QueueEntry` has it. A door has not: whether there is room for all is known to its engine only."""
        self._loop = loop
        self._has_records = has_records

    @property
    def is_open(self) -> bool:
        """Whether new requests are taken: they are until the server drains."""
        return self._entry.gate.is_open

    @property
    def is_ready(self) -> bool:
        """Whether new callers should come: they should until the server ends."""
        return self._entry.gate.is_ready

    def leave(self) -> None:
        """Say that the server is not ready, and admit requests all the same."""
        self._entry.gate.leave()

    def close(self) -> None:
        """Refuse new requests."""
        self._entry.gate.close(time.monotonic())

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
        self._take(Ticket(request, arrival, deadline, connection, reply))

    def submit_joint_to(
        self,
        reply: Reply,
        request: SampleRequest,
        arrival: float,
        deadline: float,
        connection: str,
        *,
        requests: int,
    ) -> bool:
        """Queue a request that stands for several, if there is room for all of them; returns whether there was."""
        ticket = Ticket(request, arrival, deadline, connection, reply, requests=requests)
        if self._take_joint is None or not self._take_joint(ticket, CALLER.get()):
            return False
        self._record(ticket)
        return True

    def submit_part(
        self, part: SampleRequest, deadline: float, connection: str, *, is_first: bool
    ) -> Future[SampleResult]:
        """Queue a part of a request that arrives now; the request is admitted with its first part.

        Raises:
            SamplerdError: it was not admitted.

        """
        reply: Future[SampleResult] = self._loop.create_future()
        self._take(Ticket(part, time.monotonic(), deadline, connection, reply), is_admitted=not is_first)
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
        self._take(Ticket(request, arrival, deadline, connection, reply))

    def _take(self, ticket: Ticket, *, is_admitted: bool = False) -> None:
        self._entry.take(ticket, CALLER.get(), is_admitted=is_admitted)
        self._record(ticket)

    def _record(self, ticket: Ticket) -> None:
        if self._has_records and (record := current_record()) is not None:
            record.queued(ticket)
