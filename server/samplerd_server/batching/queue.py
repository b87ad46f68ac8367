"""The queue: waiting tickets, most urgent first, with a fair share of each batch for every connection.

Owned by the event loop. It has no bounds of its own: admission enforces them with the counts kept here.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplerd_server.batching.ticket import Ticket

__all__ = ["TicketQueue"]

_Heap = list[tuple[float, int, "Ticket"]]


class TicketQueue:
    """Waiting tickets in one heap for each connection, most urgent first (`Ticket.urgency`, then arrival)."""

    __slots__ = ("_connections", "_order", "_tickets", "bytes", "rows", "work")

    def __init__(self) -> None:
        self._connections: dict[str, _Heap] = {}
        self._order = count()
        self._tickets = 0
        self.rows = 0
        """Rows of the waiting tickets."""
        self.bytes = 0
        """Bytes of those rows."""
        self.work = 0
        """Work of the waiting tickets: the sum of `SampleRequest.work`."""

    def __len__(self) -> int:
        """Count the waiting tickets."""
        return self._tickets

    def add(self, ticket: Ticket) -> None:
        """Put a ticket in the queue."""
        heap = self._connections.get(ticket.connection)
        if heap is None:
            heap = self._connections[ticket.connection] = []
        heapq.heappush(heap, (ticket.urgency, next(self._order), ticket))
        self._tickets += 1
        self.rows += ticket.rows
        self.bytes += ticket.size_bytes
        self.work += ticket.work

    def oldest_arrival(self) -> float:
        """Arrival of the ticket that has waited longest. The queue must not be empty."""
        return min(entry[2].arrival for heap in self._connections.values() for entry in heap)

    def nearest_deadline(self) -> float:
        """Deadline of the ticket that is due first. The queue must not be empty."""
        return min(entry[2].deadline for heap in self._connections.values() for entry in heap)

    def take(self, max_rows: int, max_bytes: int) -> list[Ticket]:
        """Remove a batch: the most urgent tickets that fit, or one ticket if that alone is too large.

        When not all tickets fit, the first round gives every connection an even share of the rows; the second round
        fills what is left of the batch with the most urgent tickets.

        Args:
            max_rows: most rows in the batch.
            max_bytes: most bytes of rows in the batch.

        Returns:
            The tickets, most urgent first within each of the two rounds.

        """
        if self.rows <= max_rows and self.bytes <= max_bytes:
            return self._take_all()
        batch: list[Ticket] = []
        share = max(1, max_rows // max(1, len(self._connections)))
        rows, size = self._round(batch, max_rows, max_bytes, share)
        if self._connections:
            self._round(batch, max_rows - rows, max_bytes - size, max_rows)
        return batch

    def _take_all(self) -> list[Ticket]:
        entries = [entry for heap in self._connections.values() for entry in heap]
        entries.sort()
        self._connections.clear()
        self._tickets = self.rows = self.bytes = self.work = 0
        return [entry[2] for entry in entries]

    def _round(self, batch: list[Ticket], max_rows: int, max_bytes: int, share: int) -> tuple[int, int]:
        """Append what fits, at most `share` rows of each connection; returns the rows and bytes taken."""
        heads = [(heap[0], connection) for connection, heap in self._connections.items()]
        heapq.heapify(heads)
        taken: dict[str, int] = {}
        rows = size = 0
        while heads:
            (_, _, ticket), connection = heads[0]
            own_rows, own_size = ticket.rows, ticket.size_bytes
            is_within_share = not batch or taken.get(connection, 0) + own_rows <= share
            if batch and (rows + own_rows > max_rows or size + own_size > max_bytes):
                if is_within_share:
                    break  # smaller tickets must not overtake the most urgent one for ever
                heapq.heappop(heads)
                continue
            if not is_within_share:
                heapq.heappop(heads)
                continue
            batch.append(ticket)
            self._tickets -= 1
            self.work -= ticket.work
            rows, size = rows + own_rows, size + own_size
            taken[connection] = taken.get(connection, 0) + own_rows
            heap = self._connections[connection]
            heapq.heappop(heap)
            if heap:
                heapq.heapreplace(heads, (heap[0], connection))
            else:
                heapq.heappop(heads)
                del self._connections[connection]
        self.rows -= rows
        self.bytes -= size
        return rows, size
