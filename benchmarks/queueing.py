"""Queues of one server, computed: how long calls wait that come at random, taken one by one or all at a turn.

Pure: rates and times in, times out. docs/scaling.md compares them with what `latency` and `concurrency` measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Sojourn", "Turns", "fit_turns", "mean_wait_s", "sojourn"]

_WARM_UP = 0.05
"""Share of the calls that come before the queue has its usual length, and are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sojourn:
    """How long a call is in the system: its wait and its own service."""

    p50_s: float
    """Half of all calls are answered within this time, in seconds."""
    p99_s: float
    """99 of 100 are."""
    mean_s: float
    """The mean; times the rate, it is the number of calls in flight (Little)."""


def mean_wait_s(rate: float, service_s: float, variation: float = 0.0) -> float:
    """Give the mean wait of M/G/1 before service begins, in seconds (Pollaczek and Khinchine).

    Args:
        rate: calls a second, below 1 / service_s; they come independently of each other.
        service_s: mean time that the server takes for a call, in seconds.
        variation: standard deviation of that time, in units of the mean; 0 = all calls take as long.

    Raises:
        ValueError: calls come faster than they are served, so that the wait has no bound.

    """
    load = rate * service_s
    if not 0 <= load < 1:
        raise ValueError(f"the load is {load:.2f}, not below 1: calls come faster than they are served")
    return load * service_s * (1 + variation**2) / (2 * (1 - load))


def sojourn(rate: float, service_s: float, *, is_even: bool = True, calls: int = 200_000, seed: int = 0) -> Sojourn:
    """Simulate the calls, one after the other (Lindley's recursion), and give how long they are in the system.

    Args:
        rate: calls a second, below 1 / service_s.
        service_s: mean time that the server takes for a call, in seconds.
        is_even: whether all calls take as long (M/D/1); else their times are exponential (M/M/1).
        calls: how many.
        seed: of the random numbers.

    Raises:
        ValueError: calls come faster than they are served.

    """
    mean_wait_s(rate, service_s)  # refuses what has no bound
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, calls)
    services = np.full(calls, service_s) if is_even else random.exponential(service_s, calls)
    # What a call finds is what the one before it found and brought, less the time between them, and never below 0: the
    # height of a random walk above the lowest point that it has come to.
    walk = np.concatenate([[0.0], np.cumsum(services[:-1] - gaps[1:])])
    waits = walk - np.minimum.accumulate(np.minimum(walk, 0.0))
    return _summary(waits + services)


def _summary(times: NDArray[np.float64]) -> Sojourn:
    kept = np.sort(times[int(_WARM_UP * len(times)) :])
    p50, p99 = (float(kept[int(share * len(kept))]) for share in (0.5, 0.99))
    return Sojourn(p50_s=p50, p99_s=p99, mean_s=float(kept.mean()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """A server that takes all calls that have come, works for a time, and answers them together.

    This is service in bulk (Bailey, 1954) without a bound on the batch, whose time grows with the calls in it.
    """

    turn_s: float
    """What a turn takes however many calls it has, in seconds."""
    call_s: float
    """What each call adds to its turn, in seconds."""

    @property
    def capacity(self) -> float:
        """Calls a second that it comes near to with ever more calls a turn."""
        return 1 / self.call_s

    def calls_per_s(self, in_flight: float) -> float:
        """Give the calls a second of so many callers, each of whom calls again once it is answered."""
        return in_flight / (self.turn_s + in_flight * self.call_s)

    def service_s(self, calls: float) -> float:
        """Give what a call costs in turns of so many calls, in seconds."""
        return self.turn_s / calls + self.call_s

    def sojourn(self, rate: float, *, calls: int = 100_000, seed: int = 0) -> tuple[Sojourn, float]:
        """Simulate calls that come independently; returns how long they are in the system, and the calls of a turn.

        Args:
            rate: calls a second, below `capacity`.
            calls: how many.
            seed: of the random numbers.

        Raises:
            ValueError: calls come faster than they are served.

        """
        if not 0 < rate < self.capacity:
            raise ValueError(f"{rate:g} calls a second are not between 0 and {self.capacity:g}, what is served at most")
        arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, calls))
        times = np.empty(calls)
        first, turns, now = 0, 0, 0.0
        while first < calls:
            now = max(now, float(arrivals[first]))
            last = int(np.searchsorted(arrivals, now, side="right"))
            now += self.turn_s + (last - first) * self.call_s
            times[first:last] = now - arrivals[first:last]
            first, turns = last, turns + 1
        return _summary(times), calls / turns


def fit_turns(in_flight: Sequence[int], calls_per_s: Sequence[float]) -> Turns:
    """Fit the two times to measured rates: least squares of relative errors, neither time below 0.

    Args:
        in_flight: callers, each of whom calls again once it is answered; two different numbers at least.
        calls_per_s: how many calls a second were answered with as many.

    Raises:
        ValueError: fewer than two different numbers of callers, or not as many rates.

    """
    callers = np.asarray(in_flight, float)
    cycles = callers / np.asarray(calls_per_s, float)
    if len(set(in_flight)) < 2:
        raise ValueError("two times cannot be told from one number of callers")
    columns = np.stack([np.ones_like(callers), callers], axis=1)
    turn_s, call_s = np.linalg.lstsq(columns / cycles[:, None], np.ones_like(cycles), rcond=None)[0]
    if turn_s < 0:
        turn_s, call_s = 0.0, float(np.sum(callers / cycles) / np.sum((callers / cycles) ** 2))
    return Turns(turn_s=float(turn_s), call_s=float(call_s))
