"""Open-loop load: calls begin by a schedule, whether or not earlier ones were answered.

Every latency counts from the moment the schedule *intended*, not from when the call could be sent, so a server that
stalls is charged for every caller that its stall would have met ("coordinated omission" leaves them out). How late
calls were sent is reported beside: what the generator itself, its sockets and the server's windows added.
"""

from __future__ import annotations

import ctypes
import gc
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.http2 import Connection, header_block
from benchmarks.load import CONNECTIONS, SAMPLE_PATH, LoadError, frame, percentiles_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Outcome", "even", "poisson", "send_on_schedule"]

_PATIENCE_S = 20.0
"""How long after the last intended start all must be answered."""
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a schedule."""

    latencies_s: NDArray[np.float64]
    """From each call's intended start to the end of its reply, in the order of the schedule."""
    lags_s: NDArray[np.float64]
    """From each call's intended start until the generator turned to it."""
    is_answered: NDArray[np.bool_]
    """Whether each call got a message and not only a status."""
    began_s: float
    """When the schedule began, on `time.perf_counter`."""
    elapsed_s: float
    """From the first intended start to the last reply."""

    @property
    def rate(self) -> float:
        """Calls answered per second."""
        return len(self.latencies_s) / self.elapsed_s

    def percentiles_s(self) -> dict[str, float]:
        """Give p50 to p99.9 of the latencies."""
        return percentiles_s(self.latencies_s)


def even(rate: float, seconds: float) -> NDArray[np.float64]:
    """Give intended starts at equal distances, in seconds from 0."""
    return np.arange(max(1, round(rate * seconds))) / rate


def poisson(rate: float, seconds: float, *, seed: int = 1) -> NDArray[np.float64]:
    """Give intended starts of many callers that know nothing of each other: exponential distances."""
    distances = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    starts: NDArray[np.float64] = np.cumsum(distances)
    return starts


def send_on_schedule(
    port: int,
    message: bytes,
    starts_s: NDArray[np.float64],
    *,
    connections: int = CONNECTIONS,
    path: str = SAMPLE_PATH,
    headers: Mapping[int, bytes] | None = None,
) -> Outcome:
    """Make one call at each of these moments, over connections in turn, and wait for all replies.

    Args:
        port: of 127.0.0.1.
        message: what each call sends.
        starts_s: when each call is due, in seconds from the beginning of the schedule.
        connections: how many.
        path: the RPC.
        headers: what calls send besides (`benchmarks.http2.header`), by their places in the schedule; None = nothing.

    Raises:
        LoadError: the server reset a call, or did not answer all long after the last was due.

    """
    block, body = header_block(path, f"127.0.0.1:{port}"), frame(message)
    links = [Connection(port, block, body) for _ in range(connections)]
    # Timers fire up to 50 us late by default, which is a good part of a short call.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.disable()
    try:
        return _drive(links, starts_s, headers or {})
    finally:
        gc.enable()
        for link in links:
            link.close()


def _drive(links: list[Connection], starts_s: NDArray[np.float64], headers: Mapping[int, bytes]) -> Outcome:
    clock = time.perf_counter
    _settle(links)
    began = clock() + 0.01
    intended = (began + starts_s).tolist()
    total = len(intended)
    turned, ended = [0.0] * total, [0.0] * total
    give_up = intended[-1] + _PATIENCE_S
    next_up = done = 0
    while done < total:
        now = clock()
        if now > give_up:
            raise LoadError(f"{total - done} of {total} calls were not answered {_PATIENCE_S:g} s after the last")
        while next_up < total and intended[next_up] <= now:
            turned[next_up] = now
            links[next_up % len(links)].submit(next_up, headers.get(next_up, b""))
            next_up += 1
        for link in links:
            link.send()
        wait = max(0.0, intended[next_up] - clock()) if next_up < total else 0.1
        writers = [link for link in links if link.wants_to_write]
        readable, _, _ = select.select(links, writers, [], wait)
        for link in readable:
            numbers = link.receive()
            arrived = clock()
            for number in numbers:
                ended[number] = arrived
            done += len(numbers)
    due = np.array(intended)
    is_answered = np.ones(total, bool)
    for link in links:
        is_answered[list(link.refused)] = False
    return Outcome(
        latencies_s=np.array(ended) - due,
        lags_s=np.array(turned) - due,
        is_answered=is_answered,
        began_s=began,
        elapsed_s=max(ended) - began,
    )


def _settle(links: list[Connection]) -> None:
    """Exchange settings, so that the first calls know the server's windows."""
    until = time.perf_counter() + 0.1
    while (left := until - time.perf_counter()) > 0:
        for link in links:
            link.send()
        for link in select.select(links, [], [], left)[0]:
            link.receive()
