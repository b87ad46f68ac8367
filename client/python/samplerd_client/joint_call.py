"""A call of `sample` that travels together with others, and is tried again as other calls are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_client.errors import SamplerdError
from samplerd_client.result import SampleResult, assemble
from samplerd_client.retry import with_retries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_client.coalesce import Coalescer
    from samplerd_client.coalesced_request import Key
    from samplerd_client.request import PreparedRequest
    from samplerd_client.retry import Deadline, RetryBudget, RetryPolicy

__all__ = ["sample_together"]


async def sample_together(
    coalescer: Coalescer,
    key: Key,
    prepared: PreparedRequest,
    send: Callable[[bytes, float | None], Awaitable[pb.SampleResponse]],
    *,
    policy: RetryPolicy,
    budget: RetryBudget,
    deadline: Deadline,
) -> SampleResult:
    """Return the result of a call; `send` makes an attempt of it alone, where it cannot travel with others.

    Raises:
        SamplerdError: what the last attempt raised.

    """
    failed: SamplerdError | None = None
    # The first attempt, which is the last of nearly all calls, without the coroutines that a second one needs.
    try:
        result = await coalescer.sample(key, prepared, deadline.remaining_s())
    except SamplerdError as error:
        failed = error
    else:
        if result is not None:
            budget.deposit()
            return result
    is_alone = failed is None

    async def attempt(left_s: float | None) -> SampleResult:
        nonlocal is_alone
        if not is_alone:
            result = await coalescer.sample(key, prepared, left_s)
            if result is not None:
                return result
            is_alone, left_s = True, deadline.remaining_s()
        return assemble([await send(prepared.encode(), left_s)], prepared.template)

    try:
        return await with_retries(attempt, policy=policy, budget=budget, deadline=deadline, failed=failed)
    finally:
        del failed  # it holds this frame, which would hold it
