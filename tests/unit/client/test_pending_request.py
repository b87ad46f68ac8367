"""Requests of a stream that wait for replies: the order of replies, and the one timer of their deadlines."""

from __future__ import annotations

import asyncio
import math

import pytest

from samplerd_client.errors import ConnectionLostError, DeadlineError
from samplerd_client.pending_request import DueTimer, PendingRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 0.05


def pending_in(**due_s: float) -> dict[str, PendingRequest[int]]:
    now_s = asyncio.get_running_loop().time()
    return {name: PendingRequest(b"", now_s + own) for name, own in due_s.items()}


def watch(pending: dict[str, PendingRequest[int]]) -> DueTimer:
    timer = DueTimer(pending)  # type: ignore[arg-type]  # whatever the keys are
    for own in pending.values():
        timer.watch(own.due_s)
    return timer


async def test_replies_are_taken_in_order_and_the_failure_after_them():
    own: PendingRequest[int] = PendingRequest(b"")
    waiting = asyncio.ensure_future(own.take())
    await asyncio.sleep(0)
    own.put(1)
    own.put(2)
    own.put(ConnectionLostError("gone"))
    assert await waiting == 1
    assert await own.take() == 2
    assert own.has_replies()
    with pytest.raises(ConnectionLostError):
        own.pop()


async def test_each_request_fails_when_it_is_due_and_no_other_does():
    pending = pending_in(later=3 * SOON_S, first=SOON_S, never=math.inf, answered=2 * SOON_S)
    watch(pending)
    began_s = asyncio.get_running_loop().time()
    pending["answered"].put(7)
    del pending["answered"]
    with pytest.raises(DeadlineError):
        await pending["first"].take()
    assert not pending["later"].has_replies()
    with pytest.raises(DeadlineError):
        await pending["later"].take()
    assert asyncio.get_running_loop().time() - began_s >= 3 * SOON_S
    assert not pending["never"].has_replies()


async def test_a_request_fails_once_and_an_abandoned_one_never():
    pending = pending_in(first=SOON_S, abandoned=SOON_S, second=2 * SOON_S)
    pending["abandoned"].is_abandoned = True
    watch(pending)
    for name in ("first", "second"):
        with pytest.raises(DeadlineError):
            await pending[name].take()
    assert not any(own.has_replies() for own in pending.values())


async def test_a_timer_that_is_cancelled_fails_none():
    pending = pending_in(first=SOON_S)
    watch(pending).cancel()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pending["first"].take(), 3 * SOON_S)
