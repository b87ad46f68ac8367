"""When a failed call is tried again: the policy, the budget, and the one loop that uses them.

gRPC's own retries are off (see `channel`): they would multiply with these, and they cannot help a large request,
as gRPC keeps no more than 256 KiB of it to send again. Rule 1: never past the deadline. Rule 2: the server's hint is
obeyed to the millisecond, "never" included. Rule 3: the budget bounds retries over all calls of a client, so that a
fleet of clients cannot turn an overload into a storm.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from samplerd_client.errors import DeadlineError, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Clock", "Deadline", "RetryBudget", "RetryPolicy", "SystemClock", "with_retries"]

_T = TypeVar("_T")


class Clock(Protocol):
    """A clock that tests can replace."""

    def monotonic(self) -> float:
        """Return seconds from some fixed moment."""

    async def sleep(self, delay_s: float) -> None:
        """Wait for this many seconds."""


class SystemClock:
    """The real time."""

    def monotonic(self) -> float:
        """Return seconds from some fixed moment."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait for this many seconds."""
        await asyncio.sleep(delay_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and after how long, a call is tried again.

    Only OverloadedError and UnavailableError are; a sample has no side effect, so asking again is always safe.
    """

    max_attempts: int = 4
    """Attempts in all; 1 = never try again."""
    initial_backoff_s: float = 0.05
    """Upper end of the first wait; each wait is uniform from 0 to its upper end (full jitter)."""
    max_backoff_s: float = 2.0
    """Upper end of the longest wait."""
    multiplier: float = 2.0
    """Factor by which the upper end grows with each wait."""
    budget: float = 20.0
    """Retries that the client may make in a burst; each uses up one."""
    budget_refill: float = 0.1
    """Retries that each successful call gives back: with 0.1, at most one retry for ten such calls in the long run."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not 0 <= self.initial_backoff_s <= self.max_backoff_s:
            raise ValueError("expected 0 <= initial_backoff_s <= max_backoff_s")
        if self.multiplier < 1 or self.budget < 0 or self.budget_refill < 0:
            raise ValueError("expected multiplier >= 1, budget >= 0, budget_refill >= 0")

    def backoff_s(self, attempt: int, uniform: float) -> float:
        """Return the wait in seconds after attempt 1, 2, ...; `uniform` in [0, 1) is the jitter."""
        # The exponent is capped because 2.0 ** 1024 is an OverflowError, and 2^64 is past any bound anyway.
        ceiling = min(self.max_backoff_s, self.initial_backoff_s * self.multiplier ** min(attempt - 1, 64))
        return uniform * ceiling


class RetryBudget:
    """A token bucket of retries, shared by all calls of a client."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = policy.budget

    @property
    def tokens(self) -> float:
        """Retries that may be made now."""
        return self._tokens

    def deposit(self) -> None:
        """Count a call that succeeded."""
        self._tokens = min(self._policy.budget, self._tokens + self._policy.budget_refill)

    def withdraw(self) -> bool:
        """Use up one retry; False if none is left."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Deadline(NamedTuple):
    """The end of a call, on a clock's own scale; None = no end."""

    at_s: float | None
    clock: Clock

    @classmethod
    def after(cls, timeout_s: float | None, clock: Clock) -> Deadline:
        """Return the deadline this many seconds from now."""
        return cls(None if timeout_s is None else clock.monotonic() + timeout_s, clock)

    def remaining_s(self) -> float | None:
        """Return the seconds left, or None when there is no end.

        Raises:
            DeadlineError: none are left.

        """
        if self.at_s is None:
            return None
        left = self.at_s - self.clock.monotonic()
        if left <= 0.0:
            raise DeadlineError("the time given to the call is over")
        return left

    def allows(self, delay_s: float) -> bool:
        """Tell whether a wait would end before the deadline."""
        return self.at_s is None or self.clock.monotonic() + delay_s < self.at_s


async def with_retries(
    attempt: Callable[[float | None], Awaitable[_T]],
    *,
    policy: RetryPolicy,
    budget: RetryBudget,
    deadline: Deadline,
    uniform: Callable[[], float] = random.random,
    failed: SamplerdError | None = None,
) -> _T:
    """Return what an attempt returns, trying again as the policy allows.

    Args:
        attempt: makes one attempt, given the seconds that are left (None = any).
        policy: how often and after how long.
        budget: the client's.
        deadline: of all attempts and waits together.
        uniform: the jitter, in [0, 1).
        failed: what the first attempt raised, if the caller has made it already.

    Raises:
        SamplerdError: what the last attempt raised, at once when the next one would come too late.

    """
    number = 0
    while True:
        number += 1
        try:
            if failed is not None:
                error, failed = failed, None
                raise error
            result = await attempt(deadline.remaining_s())
        except SamplerdError as error:
            if not error.is_retryable or number >= policy.max_attempts:
                raise
            delay_s = error.retry_after_s
            if delay_s is None:
                delay_s = policy.backoff_s(number, uniform())
            if delay_s < 0.0 or not deadline.allows(delay_s) or not budget.withdraw():
                raise
        else:
            budget.deposit()
            return result
        await deadline.clock.sleep(delay_s)
