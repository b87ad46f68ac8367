"""The long requests: those that would hold the device for longer than a slice, and which of them runs next.

A long request is computed in slices of about `max_slice_s`, between which the device serves everybody else. Slices are
shared out like batches: each connection gets an even share of the seconds, and so does each request of a connection. At
most `MOST_BEGUN` requests are between two of their slices, which bounds their memory; the others wait, most urgent
first. Owned by the event loop.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

from samplerd_server.batching.cost_model import NOMINAL_RATE
from samplerd_server.batching.sliced import slice_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.batching.sliced import SlicedRequest
    from samplerd_server.batching.ticket import Ticket

__all__ = ["MOST_BEGUN", "LongRequest", "LongRequests", "SliceClock"]

MOST_BEGUN = 8
"""Requests that have had a slice and are not done. Their rows left the queue, so they are memory beyond its bound."""
_FIRST_SHARE = 0.25
"""The first slice of a request is this much shorter than the others: its price may be far off on this machine, and the
slices after it go by what it took."""
_SLOWER, _FASTER = 1.0, 0.3
"""How much of a new measurement counts: all of it if the device has become slower."""


class SliceClock:
    """Predicts the seconds of a slice from its price: the rate of the slices before it."""

    __slots__ = ("_rate",)

    def __init__(self, rate: float = NOMINAL_RATE) -> None:
        self._rate = rate

    @property
    def rate(self) -> float:
        """Seconds for a nanosecond of price."""
        return self._rate

    def learn(self, work: float, seconds: float) -> None:
        """Update the rate with a finished slice."""
        if work > 0 and seconds > 0:
            seen = seconds / work
            share = _SLOWER if seen > self._rate else _FASTER
            self._rate += (seen - self._rate) * share


class LongRequest:
    """One long request, with its ticket and what it has taken."""

    __slots__ = ("_clock", "began", "compute_s", "served_s", "sliced", "ticket")

    def __init__(self, ticket: Ticket, most_draws: int = 0) -> None:
        self.ticket = ticket
        self.sliced: SlicedRequest = slice_request(ticket.request, most_draws)
        self.began = 0.0
        """When its first slice was formed, on the monotonic clock; 0 = not yet."""
        self.compute_s = 0.0
        """Seconds on the device so far."""
        self.served_s = 0.0
        """The same, but a request that came later begins where the others of its connection are."""
        self._clock: SliceClock | None = None

    def budget(self, clock: SliceClock, slice_s: float) -> float:
        """Give the price of its next slice, in nanoseconds."""
        if self._clock is None:
            return _FIRST_SHARE * slice_s / clock.rate
        return slice_s / self._clock.rate

    def learn(self, work: float, seconds: float) -> None:
        """Take notice that a slice of this price took so long."""
        self.compute_s += seconds
        self.served_s += seconds
        if self._clock is None and work > 0 and seconds > 0:
            self._clock = SliceClock(seconds / work)
        elif self._clock is not None:
            self._clock.learn(work, seconds)


class LongRequests:
    """Those that wait for their first slice, and those that are between two of them."""

    def __init__(self, most_draws: int = 0) -> None:
        self._most_draws = most_draws
        self._waiting: list[tuple[float, int, LongRequest]] = []
        self._begun: list[LongRequest] = []
        self._served: dict[str, float] = {}
        """Seconds of each connection that has begun requests; one that joins begins where the least served one is."""
        self._order = count()
        self.rows = 0
        """Rows of the requests that wait for their first slice."""
        self.bytes = 0
        """Bytes of those rows."""
        self._waiting_work = 0

    def __len__(self) -> int:
        """Count the long requests that are not done."""
        return len(self._waiting) + len(self._begun)

    @property
    def work(self) -> float:
        """Price of all that is left, in nanoseconds."""
        return self._waiting_work + sum(own.sliced.work_left for own in self._begun)

    def add(self, ticket: Ticket) -> None:
        """Let a long request wait for its first slice."""
        heapq.heappush(self._waiting, (ticket.urgency, next(self._order), LongRequest(ticket, self._most_draws)))
        self.rows += ticket.rows
        self.bytes += ticket.size_bytes
        self._waiting_work += ticket.work

    def remove_waiting(self, is_dead: Callable[[Ticket], bool]) -> list[LongRequest]:
        """Forget those that wait for their first slice and for which `is_dead` holds; returns them."""
        dead = [own for _, _, own in self._waiting if is_dead(own.ticket)]
        if dead:
            self._waiting = [entry for entry in self._waiting if entry[2] not in dead]
            heapq.heapify(self._waiting)
            for own in dead:
                self._forget(own)
        return dead

    @property
    def tickets(self) -> list[Ticket]:
        """All tickets that are not answered."""
        return [own.ticket for own in (*(entry[2] for entry in self._waiting), *self._begun)]

    def _forget(self, waiting: LongRequest) -> None:
        self.rows -= waiting.ticket.rows
        self.bytes -= waiting.ticket.size_bytes
        self._waiting_work -= waiting.ticket.work

    def next(self) -> LongRequest:
        """Choose whose slice is next; there must be a request. It stays until it is removed."""
        while self._waiting and len(self._begun) < MOST_BEGUN:
            self._begin(self._pop_waiting())
        served = self._served
        return min(self._begun, key=lambda own: (served[own.ticket.connection], own.served_s, own.ticket.urgency))

    def _pop_waiting(self) -> LongRequest:
        """Take the most urgent one, of a connection that has begun the fewest."""
        begun = [own.ticket.connection for own in self._begun]
        place = min(
            range(len(self._waiting)),
            key=lambda at: (begun.count(self._waiting[at][2].ticket.connection), *self._waiting[at][:2]),
        )
        chosen = self._waiting.pop(place)[2]
        heapq.heapify(self._waiting)
        self._forget(chosen)
        return chosen

    def _begin(self, chosen: LongRequest) -> None:
        connection = chosen.ticket.connection
        if connection not in self._served:
            self._served[connection] = min(self._served.values(), default=0.0)
        mates = [own.served_s for own in self._begun if own.ticket.connection == connection]
        chosen.served_s = min(mates, default=0.0)
        self._begun.append(chosen)

    def learn(self, request: LongRequest, work: float, seconds: float) -> None:
        """Take notice that a slice of a begun request took so long."""
        request.learn(work, seconds)
        self._served[request.ticket.connection] += seconds

    def remove(self, request: LongRequest) -> None:
        """Forget a begun request: it is done, or nobody waits for it."""
        self._begun.remove(request)
        connection = request.ticket.connection
        if all(own.ticket.connection != connection for own in self._begun):
            del self._served[connection]
