"""The retry policy, its budget and its loop, on a clock of the test's own."""

from __future__ import annotations

import math

import pytest

from samplerd_client.errors import DeadlineError, InvalidRequestError, OverloadedError, SamplerdError, UnavailableError
from samplerd_client.retry import Deadline, RetryBudget, RetryPolicy, with_retries


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.now_s += delay_s


class Attempts:
    """Raises what its script says, then succeeds; each attempt takes a second."""

    def __init__(self, clock: FakeClock, *script: SamplerdError) -> None:
        self.clock = clock
        self.script = list(script)
        self.left: list[float | None] = []

    async def __call__(self, left_s: float | None) -> str:
        self.left.append(left_s)
        self.clock.now_s += 1.0
        if self.script:
            raise self.script.pop(0)
        return "done"


async def run(
    attempts: Attempts,
    *,
    policy: RetryPolicy | None = None,
    timeout_s: float | None = None,
    budget: RetryBudget | None = None,
    uniform: float = 1.0,
    failed: SamplerdError | None = None,
) -> str:
    policy = policy or RetryPolicy()
    return await with_retries(
        attempts,
        policy=policy,
        budget=budget or RetryBudget(policy),
        deadline=Deadline.after(timeout_s, attempts.clock),
        uniform=lambda: uniform,
        failed=failed,
    )


def test_backoff_is_bounded_exponential_with_full_jitter() -> None:
    policy = RetryPolicy(initial_backoff_s=0.1, max_backoff_s=1.0, multiplier=2.0)
    assert [policy.backoff_s(n, 1.0) for n in (1, 2, 3, 4, 5)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])
    assert policy.backoff_s(3, 0.0) == 0.0
    assert policy.backoff_s(3, 0.25) == pytest.approx(0.1)
    assert policy.backoff_s(10**9, 1.0) == 1.0


async def test_waits_and_succeeds() -> None:
    clock = FakeClock()
    attempts = Attempts(clock, UnavailableError("a"), OverloadedError("b"))
    assert await run(attempts, policy=RetryPolicy(initial_backoff_s=0.5, max_backoff_s=9.0)) == "done"
    assert clock.slept == [0.5, 1.0]


async def test_a_first_attempt_that_the_caller_made_counts_as_one() -> None:
    clock = FakeClock()
    attempts = Attempts(clock, OverloadedError("b"))
    policy = RetryPolicy(max_attempts=3, initial_backoff_s=0.5, max_backoff_s=9.0)
    assert await run(attempts, policy=policy, failed=UnavailableError("a")) == "done"
    assert clock.slept == [0.5, 1.0]
    assert len(attempts.left) == 2
    once = Attempts(clock)
    with pytest.raises(UnavailableError):
        await run(once, policy=RetryPolicy(max_attempts=1), failed=UnavailableError("a"))
    with pytest.raises(InvalidRequestError):
        await run(once, failed=InvalidRequestError("c"))
    assert not once.left


async def test_the_hint_replaces_the_backoff() -> None:
    clock = FakeClock()
    assert await run(Attempts(clock, OverloadedError("b", retry_after_s=0.123))) == "done"
    assert clock.slept == [0.123]


async def test_the_hint_forbids() -> None:
    clock = FakeClock()
    with pytest.raises(OverloadedError):
        await run(Attempts(clock, OverloadedError("b", retry_after_s=-1.0)))
    assert clock.slept == []


async def test_what_is_not_retryable_is_raised_at_once() -> None:
    clock = FakeClock()
    attempts = Attempts(clock, InvalidRequestError("no"))
    with pytest.raises(InvalidRequestError):
        await run(attempts)
    assert len(attempts.left) == 1


async def test_attempts_are_capped() -> None:
    attempts = Attempts(FakeClock(), *(UnavailableError(str(n)) for n in range(9)))
    with pytest.raises(UnavailableError, match="2"):
        await run(attempts, policy=RetryPolicy(max_attempts=3))
    assert len(attempts.left) == 3


async def test_never_past_the_deadline() -> None:
    clock = FakeClock()
    attempts = Attempts(clock, *(UnavailableError(str(n)) for n in range(9)))
    with pytest.raises(UnavailableError, match="1"):
        await run(attempts, policy=RetryPolicy(max_attempts=9, initial_backoff_s=2.0, max_backoff_s=2.0), timeout_s=5.0)
    assert attempts.left == [5.0, 2.0], "each attempt gets what is left, and none would start at the deadline"
    assert clock.now_s == 1004.0, "no wait that cannot help"


async def test_a_deadline_that_is_over_already() -> None:
    attempts = Attempts(FakeClock())
    with pytest.raises(DeadlineError):
        await run(attempts, timeout_s=0.0)
    assert attempts.left == []


async def test_the_budget_stops_a_storm() -> None:
    policy = RetryPolicy(budget=3.0, budget_refill=0.5, initial_backoff_s=0.0)
    budget = RetryBudget(policy)
    sent = 0
    for _ in range(20):
        attempts = Attempts(FakeClock(), *(UnavailableError("x") for _ in range(9)))
        with pytest.raises(UnavailableError):
            await run(attempts, policy=policy, budget=budget)
        sent += len(attempts.left)
    assert sent == 20 + 3, "an overload sees the calls and no more than the budget on top"
    for _ in range(4):
        await run(Attempts(FakeClock()), policy=policy, budget=budget)
    assert budget.tokens == 2.0
    assert not math.isinf(budget.tokens)
    for _ in range(40):
        budget.deposit()
    assert budget.tokens == 3.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial_backoff_s": -1.0},
        {"initial_backoff_s": 9.0},
        {"multiplier": 0.5},
        {"budget": -1.0},
    ],
)
def test_policies_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|must be"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
