"""How long calls wait inside grpcio before their handlers begin.

grpcio hands calls to Python in the order in which they came. Its own count of the calls that it has taken in (channelz)
is sampled on a thread, so that a busy event loop delays no sample. The n-th call that is handed over is the n-th that
was taken in: it came when the count passed n, which two samples enclose. A call that came after the last sample has
waited for as long as the recent ones on average: by Little's law the number that waits divided by their rate.

Rule 1: the thread samples, and the event loop alone reads and counts. Rule 2: a sample costs some 0.15 ms, so there are
few of them: waits far longer than `_SAMPLE_S` are exact to it, and shorter ones are right on average.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import grpc
from grpc._cython import cygrpc

from samplerd_server.core.named_thread import NamedThread
from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival
from samplerd_server.transport.rpc.request_id import REQUEST_ID, accept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Thread

    from samplerd_server.transport.grpcio.lines import Turn

__all__ = ["ArrivalSampler", "Arrivals", "server_ids"]

_SAMPLE_S = 0.01
"""Seconds between two samples of a server that has calls, times the number of such servers."""
_IDLE_S = 1.0
"""Seconds between two samples of a server that has none: they are a good part of what an idle process takes."""
_SMOOTHING = 0.25
"""Weight of a sample in the recent averages."""
_COUNT = re.compile(rb'"calls(\w+)":"(\d+)"')
_SOCKET = re.compile(rb'"socketId":"(\d+)"')
_ID = re.compile(rb'"serverId":"(\d+)"')


def server_ids() -> set[int]:
    """Give the numbers by which channelz knows this process's servers; grpcio gives them out when it is first asked."""
    found: list[int] = []
    while True:
        page: bytes = cygrpc.channelz_get_servers(max(found) + 1 if found else 0)
        own = [int(number) for number in _ID.findall(page)]
        found += own
        if not own or b'"end":true' in page:
            return set(found)


class Arrivals(grpc.GenericRpcHandler):
    """The calls of one server, as they came and as they begin.

    It is the server's first generic handler: it sees every call that begins, and answers none.
    """

    def __init__(self, number: int) -> None:
        """Take the server's number in channelz."""
        self._number = number
        self._taken = 0
        """Calls that grpcio has handed over, and those that ended in it before it could."""
        self.handed: deque[Turn] | None = None
        """The calls that were handed over and begin next, in their order; None = each begins as it is handed over."""
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        """Samples: the time and how many calls had been taken in; from the one before the next call to begin.

        Of samples with the same count the first and the last are kept: one ends the time in which its calls came, the
        other begins that of the next.
        """
        self._is_level = True
        """Whether the last sample counts what the one before it did."""
        self._waiting = 0.0
        self._rate = 0.0
        self._sampled = (0, 0)
        """Calls that had been taken in at the last sample, and those of them that had not ended."""
        self.wakes: Event | None = None
        """What wakes the sampler, while it samples seldom because the server has no calls."""
        self._calls: set[Arrival] = set()
        """Those that have not ended, of the calls that have begun."""
        self.ended: Callable[[Turn, Arrival], None] | None = None
        """What is told of each call that has ended."""
        self.unread = 0
        """Calls that ended before their message had come: too large, cancelled, or past the deadline."""
        self.dropped = 0
        """Calls that ended in grpcio before they could begin."""
        self.next_sample = 0.0
        """When that is, in seconds on the monotonic clock."""

    def take(self) -> float:
        """Count a call that grpcio hands over; returns when it came."""
        now = time.monotonic()
        self._taken += 1  # before the look at what wakes the sampler, which looks in the other order
        if self.wakes is not None:
            self._points[-1] = (now, self._points[-1][1])
            self._waiting = self._rate = 0.0
            self.wakes.set()
            self.wakes = None
        return self._came(self._taken, now)

    def service(self, details: grpc.HandlerCallDetails) -> None:
        """Take note of the call that begins now."""
        turn = None if self.handed is None else self.handed.popleft()
        arrival = Arrival(self.take() if turn is None else turn.came, _id_of(details), turn)
        if turn is not None:
            arrival.connection = str(turn.connection)
        ARRIVED.set(arrival)
        self._calls.add(arrival)
        task = asyncio.current_task()
        assert task is not None, "grpcio without a task. This is a bug."
        task.add_done_callback(partial(self._ended, arrival, turn))

    def _ended(self, arrival: Arrival, turn: Turn | None, _task: object) -> None:
        """Forget a call; count it if its handler never began: grpcio did not get its message whole, or refused it."""
        self._calls.discard(arrival)
        if turn is not None and self.ended is not None:
            self.ended(turn, arrival)
        arrival.end()
        if not arrival.has_begun:
            self.unread += 1

    @property
    def answering(self) -> list[Arrival]:
        """The calls that were read and have not ended: their handlers run, or their replies are on their way."""
        return [arrival for arrival in self._calls if arrival.has_begun]

    def _came(self, number: int, now: float) -> float:
        """Estimate when a call came that is handed over now."""
        points = self._points
        while len(points) > 1 and points[1][1] < number:
            points.popleft()
        since, before = points[0]
        if len(points) > 1 and before < number:
            until, after = points[1]
            return min(now, since + (until - since) * (number - before - 0.5) / (after - before))
        if before >= number or not self._rate:
            return now
        return max(since, now - self._waiting / self._rate)

    def sample(self) -> bool:
        """Ask grpcio for its counts; returns whether the server has calls. On the sampler's thread."""
        counts = self._counts()
        if counts is None:
            return False
        now = time.monotonic()
        then, before = self._points[-1]
        open_calls, taken_in = self._open(counts), counts["Started"]
        waiting = max(0, taken_in - self._taken)
        if waiting > open_calls:  # some ended before they began: their callers cancelled them
            self._taken += waiting - open_calls
            self.dropped += waiting - open_calls
            waiting = open_calls
        self._sampled = (taken_in, open_calls)
        if now > then:
            self._rate += _SMOOTHING * ((taken_in - before) / (now - then) - self._rate)
        self._waiting += _SMOOTHING * (waiting - self._waiting)
        if taken_in == before and self._is_level:
            self._points[-1] = (now, before)
        else:
            self._points.append((now, taken_in))
        self._is_level = taken_in == before
        return bool(open_calls) or taken_in != before

    def _counts(self) -> dict[str, int] | None:
        """Give channelz's counts of calls: ``Started``, ``Succeeded`` and ``Failed``; None = the server has ended."""
        found = {"Started": 0, "Succeeded": 0, "Failed": 0}
        try:
            page: bytes = cygrpc.channelz_get_server(self._number)
        except ValueError:
            return None
        for name, count in _COUNT.findall(page):
            found[name.decode()] = int(count)
        return found

    @staticmethod
    def _open(counts: dict[str, int]) -> int:
        return max(0, counts["Started"] - counts["Succeeded"] - counts["Failed"])

    @property
    def taken(self) -> int:
        """Calls that grpcio has handed over, and those that ended in it before it could."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Calls that grpcio has taken in and not handed over."""
        counts = self._counts()
        return 0 if counts is None else max(0, min(counts["Started"] - self._taken, self._open(counts)))

    @property
    def waited_lately(self) -> int:
        """Calls of those that the last sample saw which grpcio has not handed over.

        It asks grpcio nothing: that takes 60 us for each server, of which a process has several.
        """
        taken_in, open_calls = self._sampled
        return max(0, min(taken_in - self._taken, open_calls))

    @property
    def connections(self) -> int:
        """Connections of the server's clients."""
        found = first = 0
        while True:
            try:
                page: bytes = cygrpc.channelz_get_server_sockets(self._number, first, 0)
            except ValueError:
                return found
            numbers = [int(number) for number in _SOCKET.findall(page)]
            found += len(numbers)
            if not numbers or b'"end":true' in page:
                return found
            first = max(numbers) + 1


def _id_of(details: grpc.HandlerCallDetails) -> str:
    """Give the request id that the client sent; empty = none that can be used."""
    sent_id: str | bytes = ""
    for key, value in details.invocation_metadata or ():
        if key == REQUEST_ID:
            sent_id = value
    return accept(sent_id) if sent_id else ""


class ArrivalSampler:
    """Samples the arrivals of all servers of this process on a thread of its own."""

    def __init__(self) -> None:
        self._servers: Sequence[Arrivals] = ()
        self._thread: Thread | None = None
        self._has_ended = False
        self._wakes = Event()

    @property
    def waiting(self) -> int:
        """Calls that wait in grpcio, of all servers."""
        return sum(server.waiting for server in self._servers)

    @property
    def waited_lately(self) -> int:
        """The same as of the last sample of each: a moment ago, or a second for a server that had no calls."""
        return sum(server.waited_lately for server in self._servers)

    @property
    def connections(self) -> int:
        """Connections of all servers."""
        return sum(server.connections for server in self._servers)

    def start(self, servers: Sequence[Arrivals]) -> None:
        """Begin to sample."""
        self._servers = servers
        self._thread = NamedThread(target=self._run, name="samplerd-arrivals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sample no longer; nothing waits any more."""
        self._has_ended = True
        self._wakes.set()
        if self._thread is not None:
            self._thread.join()
        self._servers = ()

    def _run(self) -> None:
        while not self._has_ended:
            self._wakes.clear()
            active = sum(map(self._sample, self._servers))
            if active:
                time.sleep(_SAMPLE_S * active)
            else:
                self._wakes.wait(_IDLE_S)

    def _sample(self, server: Arrivals) -> bool:
        """Sample a server if it is time; returns whether it has calls."""
        now = time.monotonic()
        if server.wakes is not None and now < server.next_sample:
            return False
        server.wakes = None
        taken = server.taken
        if server.sample():
            return True
        server.next_sample = now + _IDLE_S
        server.wakes = self._wakes
        if server.taken == taken:
            return False
        server.wakes = None  # a call was handed over since, and may have seen nothing to wake
        return True
