"""Many concurrent calls of one row each, carried by few requests of many rows.

Work-conserving and without a timer: what the calls of one turn of the event loop ask goes out at the end of that turn;
while `max_in_flight` requests are under way the next one gathers, and it goes out as soon as one is answered or it is
full. So a lone call never waits for company, and requests grow by themselves with the load. Callers who have been
answered together ask again together: half of them go ahead, so that the server draws while the others still ask.

Rule 1: nobody can tell from a result, or from an error, that a call had company (`bundle` says why). Rule 2: a call
that is cancelled or late gives up its place at once; a request that nobody waits for any more is cancelled. Rule 3:
what waits is bounded; a call beyond that waits for a place first. Rule 4: all of it runs on one event loop.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_client.bundle import Call, blame, decode, encode, key_of
from samplerd_client.errors import (
    ConnectionLostError,
    DeadlineError,
    InvalidRequestError,
    MessageTooLargeError,
    SamplerdError,
)
from samplerd_client.gather import Group, Request
from samplerd_client.result import assemble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_client.bundle import Key
    from samplerd_client.request import Plan
    from samplerd_client.result import SampleResult

__all__ = ["Coalescer", "Coalescing"]

_MAX_SAMPLES = 1 << 16
"""Samples of one request: its reply then takes a few MiB at most, whatever else is asked for."""

_HEAD_START = 16
"""Calls that are worth a request of their own, though as many more may come in the same turn."""

_MAX_SETBACKS = 2
"""How often a call is asked again in company after another call has spoilt its request."""

_CLOSED = "the client was closed during the call"

_SIZE_FIELDS = frozenset({"tensor.rows", "num_samples", "source"})
"""What the server names when a request has too many rows for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coalescing:
    """How calls are gathered. Calls of one row that agree in all but row, seed and parameters can share a request."""

    max_in_flight: int = 2
    """Requests under way, of calls that can share one, before the next one gathers. A full one is sent all the same; a
    small one, with less than a quarter of the calls of another, waits."""
    max_rows: int = 256
    """Rows of a request: what the server draws in one batch by default."""
    max_bytes: int = 2 << 20
    """Bytes of a request, half of what gRPC servers take by default. A call that takes more than a quarter of it goes
    alone: the more there is to carry, the less there is to gain."""
    max_calls: int = 4096
    """Calls that wait, for their turn or for their reply; more wait for a place."""

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "max_rows", "max_bytes", "max_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Coalescer:
    """Gathers calls, sends requests and hands out the replies.

    Args:
        send: sends the bytes of a request, given the seconds that are left (None = any), and returns the reply.
        settings: the limits.

    """

    def __init__(
        self, send: Callable[[bytes, float | None], Awaitable[pb.SampleResponse]], settings: Coalescing
    ) -> None:
        self._send = send
        self._max_in_flight = settings.max_in_flight
        self._max_rows = settings.max_rows
        self._max_bytes = settings.max_bytes
        self._places = asyncio.Semaphore(settings.max_calls)
        self._groups: dict[Key, Group] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = math.inf
        self._is_lonely = True
        """The last request had one call: the next one that finds nobody need not look for company."""
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return sum(map(len, self._groups.values()))

    def key(self, plan: Plan) -> Key | None:
        """Return what the call has to agree in with others; None = it is made alone."""
        key = key_of(plan)
        if key is None or plan.rows is None:
            return None
        size = len(plan.rows.data) + len(plan.recipe.split.row_params)
        is_small = 4 * size <= self._max_bytes and 2 * plan.recipe.num_samples <= _MAX_SAMPLES
        return key if is_small and self._max_rows > 1 else None

    async def sample(self, key: Key, plan: Plan, left_s: float | None) -> SampleResult | None:
        """Return the result of a call, or None when it has to be made alone after all.

        Args:
            key: what `key` says of it.
            plan: the call.
            left_s: seconds that it has; None = any.

        Raises:
            SamplerdError: what it would have raised alone.

        """
        deadline_s = math.inf if left_s is None else time.monotonic() + left_s
        if self._places.locked():
            await self._wait_for_place(left_s)
        else:
            await self._places.acquire()
        try:
            if self._is_closed:
                raise ConnectionLostError(_CLOSED)
            loop = asyncio.get_running_loop()
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = Group(key, plan.recipe.num_samples)
                if self._is_lonely:
                    return await self._send_at_once(group, plan, left_s)
            call = Call(plan, loop.create_future(), deadline_s)
            group.add(call)
            if len(group) == group.head_start:
                self._flush(group)
            elif not group.is_due:
                group.is_due = True
                loop.call_soon(self._flush, group)
            if deadline_s < self._alarm_s:
                self._set_alarm(deadline_s)
            try:
                return await call.reply
            except asyncio.CancelledError:
                group.forget(call)
                raise
        finally:
            self._places.release()

    async def _send_at_once(self, group: Group, plan: Plan, left_s: float | None) -> SampleResult:
        """Make a call that has no company, and had none before; what comes meanwhile gathers."""
        group.direct_calls += 1
        try:
            return assemble([await self._send(plan.encode(), left_s)], plan.recipe)
        finally:
            group.direct_calls -= 1
            self._flush(group)

    async def aclose(self) -> None:
        """Fail the calls that wait for their turn, and end with the requests under way, which the channel has ended."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        groups = tuple(self._groups.values())
        tasks = {request.task for group in groups for request in group.in_flight}
        for group in groups:
            for call in group.take_all():
                call.fail(ConnectionLostError(_CLOSED))
        if tasks:
            await asyncio.wait(tasks)
        self._groups.clear()

    async def _wait_for_place(self, left_s: float | None) -> None:
        try:
            async with asyncio.timeout(left_s):
                await self._places.acquire()
        except TimeoutError:
            raise DeadlineError("the time given to the call is over") from None

    def _flush(self, group: Group) -> None:
        """Send what waits, as far as it may be sent."""
        group.is_due, group.head_start = False, 0
        max_rows = min(self._max_rows, max(1, _MAX_SAMPLES // group.num_samples))
        while self._may_send(group, max_rows):
            calls = group.take(max_rows, self._max_bytes)
            if not calls:
                break
            self._is_lonely = len(calls) == 1
            request = Request(calls, asyncio.create_task(self._carry(group, calls), name="samplerd-coalesced"))
            group.in_flight.add(request)
            # Not at the end of the task itself, which would never run if it were cancelled before it began. By then
            # the calls that have been answered have had their turn, so that what they ask next is in the next request.
            request.task.add_done_callback(functools.partial(self._end, group, request))
        if group.is_idle and self._groups.get(group.key) is group:
            del self._groups[group.key]

    def _may_send(self, group: Group, max_rows: int) -> bool:
        if not group:
            return False
        # A full request gains nothing by waiting. Without the second condition a call that has lost its company would
        # travel alone beside the others for ever, at the price of as many requests as they need.
        return group.fills(max_rows, self._max_bytes) or (
            group.under_way < self._max_in_flight and group.is_worth_one()
        )

    def _end(self, group: Group, request: Request, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            for call in request.calls:
                call.fail(ConnectionLostError(_CLOSED))
        group.in_flight.discard(request)
        self._flush(group)

    async def _carry(self, group: Group, calls: list[Call]) -> None:
        """Send one request and settle its calls."""
        try:
            last_s = max(call.deadline_s for call in calls)
            left_s = None if last_s == math.inf else max(0.0, last_s - time.monotonic())
            outcomes = decode(await self._send(encode(calls), left_s), calls)
        except SamplerdError as error:
            self._judge(group, calls, error)
        except Exception as error:  # noqa: BLE001  # a bug of ours is raised to the callers, who wait for something
            for call in calls:
                call.fail(error)
        else:
            if len(group.in_flight) == 1 and not group:
                group.head_start = max(_HEAD_START, len(calls) // 2)
            for call, outcome in zip(calls, outcomes, strict=True):
                call.settle(outcome)

    def _judge(self, group: Group, calls: Sequence[Call], error: SamplerdError) -> None:
        """Settle the calls of a request that failed: some are to blame, the others are asked again."""
        blamed = blame(error, calls)
        if not blamed:
            self._learn(calls, error)
        for at in reversed(range(len(calls))):
            call = calls[at]
            if at in blamed:
                call.fail(blamed[at])
            elif not blamed or self._is_closed or call.setbacks == _MAX_SETBACKS:
                call.settle(None)
            elif call.is_wanted:
                call.setbacks += 1
                group.put_back(call)

    def _learn(self, calls: Sequence[Call], error: SamplerdError) -> None:
        """Make smaller requests after one that was too large for the server, or whose reply was for us."""
        if isinstance(error, MessageTooLargeError):
            self._max_bytes = max(1, sum(call.size for call in calls) // 2)
        elif isinstance(error, InvalidRequestError) and any(own.field in _SIZE_FIELDS for own in error.violations):
            self._max_rows = max(1, len(calls) // 2)

    def _set_alarm(self, at_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_s = at_s
        delay_s = max(0.0, at_s - time.monotonic())
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        """Fail the calls whose time is over, and set the alarm to the next deadline."""
        self._alarm, self._alarm_s = None, math.inf
        now_s, next_s = time.monotonic(), math.inf
        for group in self._groups.values():
            next_s = min(next_s, group.expire(now_s))
        if next_s < math.inf:
            self._set_alarm(next_s)
