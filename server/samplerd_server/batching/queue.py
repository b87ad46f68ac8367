"""The queue: waiting tickets, most urgent first, with a fair share of each batch for every connection.

Owned by the event loop. It has no bounds of its own: admission enforces them with the counts kept here.
"""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.batching.ticket import Ticket

__all__ = ["TicketQueue"]

_Heap = list[tuple[float, int, "Ticket"]]


class TicketQueue:
    """Waiting tickets in one heap for each connection, most urgent first (`Ticket.urgency`, then arrival)."""

    __slots__ = ("_connections", "_order", "_requests", "bytes", "rows", "work")

    def __init__(self) -> None:
        self._connections: dict[str, _Heap] = {}
        self._order = count()
        self._requests = 0
        self.rows = 0
        """Rows of the waiting tickets."""
        self.bytes = 0
        """Bytes that those tickets hold."""
        self.work = 0
        """Price of the waiting tickets in nanoseconds: the sum of `SampleRequest.work`."""

    def __len__(self) -> int:
        """Count the waiting requests."""
        return self._requests

    @property
    def connections(self) -> int:
        """Connections that have tickets waiting."""
        return len(self._connections)

    def add(self, ticket: Ticket) -> None:
        """Put a ticket in the queue."""
        heap = self._connections.get(ticket.connection)
        if heap is None:
            heap = self._connections[ticket.connection] = []
        heapq.heappush(heap, (ticket.urgency, next(self._order), ticket))
        self._requests += ticket.requests
        self.rows += ticket.rows
        self.bytes += ticket.held_bytes
        self.work += ticket.work

    def oldest_arrival(self) -> float:
        """Arrival of the ticket that has waited longest. The queue must not be empty."""
        return min(entry[2].arrival for heap in self._connections.values() for entry in heap)

    def nearest_deadline(self) -> float:
        """Deadline of the ticket that is due first. The queue must not be empty."""
        return min(entry[2].deadline for heap in self._connections.values() for entry in heap)

    def remove(self, is_dead: Callable[[Ticket], bool]) -> list[Ticket]:
        """Remove the tickets for which `is_dead` holds; returns them."""
        dead = [entry[2] for heap in self._connections.values() for entry in heap if is_dead(entry[2])]
        if dead:
            gone = set(map(id, dead))
            for connection, heap in tuple(self._connections.items()):
                heap[:] = [entry for entry in heap if id(entry[2]) not in gone]
                heapq.heapify(heap)
                if not heap:
                    del self._connections[connection]
            for ticket in dead:
                self._forget(ticket)
        return dead

    def _forget(self, ticket: Ticket) -> None:
        self._requests -= ticket.requests
        self.rows -= ticket.rows
        self.bytes -= ticket.held_bytes
        self.work -= ticket.work

    def take(self, max_rows: int, max_bytes: int, max_work: float = math.inf) -> list[Ticket]:
        """Remove a batch: the most urgent tickets that fit, or one ticket if that alone is too large.

        When not all tickets fit, the first round gives every connection an even share of the rows and of the work; the
        second round fills what is left of the batch with the most urgent tickets.

        Args:
            max_rows: most rows in the batch.
            max_bytes: most bytes of rows in the batch.
            max_work: the highest price of the batch, as of `Ticket.work`.

        Returns:
            The tickets, most urgent first within each of the two rounds.

        """
        whole = _Room(max_rows, max_bytes, max_work)
        if whole.holds(self.rows, self.bytes, self.work):
            return self._take_all()
        batch: list[Ticket] = []
        connections = max(1, len(self._connections))
        share = _Room(max(1, max_rows // connections), max_bytes, max_work / connections)
        self._round(batch, whole, share)
        if self._connections:
            self._round(batch, whole, whole)
        return batch

    def _take_all(self) -> list[Ticket]:
        entries = [entry for heap in self._connections.values() for entry in heap]
        entries.sort()
        self._connections.clear()
        self._requests = self.rows = self.bytes = self.work = 0
        return [entry[2] for entry in entries]

    def _round(self, batch: list[Ticket], whole: _Room, share: _Room) -> None:
        """Append what fits into the rest of the batch, at most `share` of each connection."""
        heads = [(heap[0], connection) for connection, heap in self._connections.items()]
        heapq.heapify(heads)
        taken: dict[str, tuple[int, int]] = {}
        rows = size = work = 0
        for own in batch:
            rows, size, work = rows + own.rows, size + own.held_bytes, work + own.work
        while heads:
            (_, _, ticket), connection = heads[0]
            own_rows, own_work = taken.get(connection, (0, 0))
            own_rows, own_work = own_rows + ticket.rows, own_work + ticket.work
            is_within_share = not batch or share.holds(own_rows, 0, own_work)
            fits = whole.holds(rows + ticket.rows, size + ticket.held_bytes, work + ticket.work)
            if batch and not fits and is_within_share:
                break  # smaller tickets must not overtake the most urgent one for ever
            if not is_within_share or (batch and not fits):
                heapq.heappop(heads)
                continue
            batch.append(ticket)
            rows, size, work = rows + ticket.rows, size + ticket.held_bytes, work + ticket.work
            taken[connection] = own_rows, own_work
            self._forget(ticket)
            heap = self._connections[connection]
            heapq.heappop(heap)
            if heap:
                heapq.heapreplace(heads, (heap[0], connection))
            else:
                heapq.heappop(heads)
                del self._connections[connection]


class _Room(NamedTuple):
    """Bounds of a batch, or of one connection's part of it."""

    rows: int
    bytes: int
    work: float

    def holds(self, rows: int, size: int, work: float) -> bool:
        """Tell whether so much fits."""
        return rows <= self.rows and size <= self.bytes and work <= self.work
