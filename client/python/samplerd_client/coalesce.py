"""Sends many concurrent calls of one row each as few requests of many rows.

There is no timer. Calls made within one turn of the event loop are sent together at its end. While `max_in_flight`
requests are in flight, further calls wait, and are sent as soon as one is answered or enough of them wait to fill a
request. So a lone call is never delayed, and requests grow with the load. Callers that were answered together usually
call again together: half of them are sent first, so that the server draws while the others are still calling.

Rule 1: results and errors are those of the call made alone (`coalesced_request` says why). Rule 2: a call that is
cancelled or late leaves the queue at once; a request without waiting callers is cancelled. Rule 3: the number of
waiting calls is bounded; further calls wait until there is room. Rule 4: everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_client.call_group import CallGroup, SentRequest
from samplerd_client.coalesced_request import Call, blame, decode, encode, key_of
from samplerd_client.errors import (
    ConnectionLostError,
    DeadlineError,
    InvalidRequestError,
    MessageTooLargeError,
    SamplerdError,
)
from samplerd_client.metadata import current_metadata
from samplerd_client.result import assemble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_client.coalesced_request import Key
    from samplerd_client.request import PreparedRequest
    from samplerd_client.result import SampleResult

__all__ = ["Coalescer", "Coalescing"]

_MAX_SAMPLES = 1 << 16
"""Samples of one request, so that its reply takes a few MiB at most, whatever outputs are asked for."""

_HEAD_START = 16
"""This many calls are sent at once, though more may follow in the same turn of the event loop."""

_MAX_SETBACKS = 2
"""How often a call is sent again together with others after another call has failed its request."""

_CLOSED = "the client was closed during the call"

_SIZE_FIELDS = frozenset({"tensor.rows", "num_samples", "source"})
"""The fields that the server names when a request has too many rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coalescing:
    """Limits for sending calls together: calls of one row that differ only in row, seed and parameters."""

    max_in_flight: int = 2
    """Requests in flight above which further calls wait. A full request is sent all the same; one with less than a
    quarter of the calls of another in flight waits."""
    max_rows: int = 256
    """Rows of a request: what the server draws in one batch by default."""
    max_bytes: int = 2 << 20
    """Bytes of a request, half of what gRPC servers accept by default. A call of more than a quarter of this is sent
    alone: for large calls the cost of a request hardly counts."""
    max_calls: int = 4096
    """Calls that wait to be sent or for their reply; further calls wait until one of them is done."""

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "max_rows", "max_bytes", "max_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Coalescer:
    """Collects calls, sends them in joint requests, and hands each its result.

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
        self._groups: dict[Key, CallGroup] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = math.inf
        self._was_alone = True
        """The last request had one call only: the next call that finds no other is sent at once."""
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Calls that wait to be sent."""
        return sum(map(len, self._groups.values()))

    def key(self, prepared: PreparedRequest) -> Key | None:
        """Return what other calls must have in common with this one to share a request; None = it is sent alone."""
        key = None if current_metadata() else key_of(prepared)
        if key is None or prepared.rows is None:
            return None
        size = len(prepared.rows.data) + len(prepared.template.parts.row_params)
        is_small = 4 * size <= self._max_bytes and 2 * prepared.template.num_samples <= _MAX_SAMPLES
        return key if is_small and self._max_rows > 1 else None

    async def sample(self, key: Key, prepared: PreparedRequest, left_s: float | None) -> SampleResult | None:
        """Return the result of a call, or None when it has to be sent alone after all.

        Args:
            key: what `key` returned for it.
            prepared: the call.
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
                group = self._groups[key] = CallGroup(key, prepared.template.num_samples)
                if self._was_alone:
                    return await self._send_at_once(group, prepared, left_s)
            call = Call(prepared, loop.create_future(), deadline_s)
            group.add(call)
            if len(group) == group.head_start:
                self._flush(group)
            elif not group.is_due:
                group.is_due = True
                loop.call_soon(self._flush, group)
            if deadline_s < self._timer_at_s:
                self._set_timer(deadline_s)
            try:
                return await call.reply
            except asyncio.CancelledError:
                group.forget(call)
                raise
        finally:
            self._places.release()

    async def _send_at_once(self, group: CallGroup, prepared: PreparedRequest, left_s: float | None) -> SampleResult:
        """Send a call alone, without waiting for the end of the turn; calls that come meanwhile wait."""
        group.direct_calls += 1
        try:
            return assemble([await self._send(prepared.encode(), left_s)], prepared.template)
        finally:
            group.direct_calls -= 1
            self._flush(group)

    async def aclose(self) -> None:
        """Fail the waiting calls, and wait for the requests in flight, which the closed channel has ended."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
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

    def _flush(self, group: CallGroup) -> None:
        """Send as many of the waiting calls as may be sent now."""
        group.is_due, group.head_start = False, 0
        max_rows = min(self._max_rows, max(1, _MAX_SAMPLES // group.num_samples))
        while self._may_send(group, max_rows):
            calls = group.take(max_rows, self._max_bytes)
            if not calls:
                break
            self._was_alone = len(calls) == 1
            task = asyncio.create_task(self._send_request(group, calls), name="samplerd-coalesced")
            request = SentRequest(calls, task)
            group.in_flight.add(request)
            # Not at the end of the task itself, which never runs if it is cancelled before it starts. And by the time
            # of the callback the answered callers have run, so that their next calls are in the next request.
            task.add_done_callback(functools.partial(self._end, group, request))
        if group.is_idle and self._groups.get(group.key) is group:
            del self._groups[group.key]

    def _may_send(self, group: CallGroup, max_rows: int) -> bool:
        if not group:
            return False
        # A full request gains nothing by waiting. Without the second condition a call that fell out of step with the
        # others would be sent alone for ever, and cost as many requests as all of them together.
        return group.fills(max_rows, self._max_bytes) or (
            group.under_way < self._max_in_flight and group.is_worth_one()
        )

    def _end(self, group: CallGroup, request: SentRequest, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            for call in request.calls:
                call.fail(ConnectionLostError(_CLOSED))
        group.in_flight.discard(request)
        self._flush(group)

    async def _send_request(self, group: CallGroup, calls: list[Call]) -> None:
        """Send one request, and hand its calls their results."""
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

    def _judge(self, group: CallGroup, calls: Sequence[Call], error: SamplerdError) -> None:
        """Settle the calls of a failed request: those that caused it fail, the others are sent again."""
        blamed = blame(error, calls)
        if not blamed:
            self._shrink_requests(calls, error)
        for at in reversed(range(len(calls))):
            call = calls[at]
            if at in blamed:
                call.fail(blamed[at])
            elif not blamed or self._is_closed or call.setbacks == _MAX_SETBACKS:
                call.settle(None)
            elif call.is_wanted:
                call.setbacks += 1
                group.put_back(call)

    def _shrink_requests(self, calls: Sequence[Call], error: SamplerdError) -> None:
        """Halve the size of requests after one was too large for the server, or its reply for this client."""
        if isinstance(error, MessageTooLargeError):
            self._max_bytes = max(1, sum(call.size for call in calls) // 2)
        elif isinstance(error, InvalidRequestError) and any(own.field in _SIZE_FIELDS for own in error.violations):
            self._max_rows = max(1, len(calls) // 2)

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        delay_s = max(0.0, at_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        """Fail the calls whose deadline has passed, and set the timer to the next deadline."""
        self._timer, self._timer_at_s = None, math.inf
        now_s, next_s = time.monotonic(), math.inf
        for group in self._groups.values():
            next_s = min(next_s, group.expire(now_s))
        if next_s < math.inf:
            self._set_timer(next_s)
