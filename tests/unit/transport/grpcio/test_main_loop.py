"""What grpcio's main loop waits with."""

from __future__ import annotations

import asyncio

import pytest
from grpc._cython import cygrpc

from samplerd_server.transport.grpcio import main_loop
from samplerd_server.transport.grpcio.main_loop import wait


def pending(*futures):
    """Give futures as grpcio's main loop does: the keys of a dict."""
    return dict.fromkeys(futures).keys()


async def test_a_lone_future_is_waited_for():
    future = asyncio.Future()
    waiting = asyncio.ensure_future(wait(pending(future), return_when=asyncio.FIRST_COMPLETED))
    await asyncio.sleep(0)
    assert not waiting.done()
    future.set_result(7)
    done, left = await waiting
    assert done == {future}
    assert left == set()
    assert future.result() == 7


async def test_an_error_is_left_to_the_future():
    future = asyncio.Future()
    asyncio.get_running_loop().call_soon(future.set_exception, ValueError("no call"))
    done, _ = await wait(pending(future), return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(ValueError, match="no call"):
        done.pop().result()


async def test_a_future_that_is_done_takes_a_turn_of_the_event_loop():
    turns = []
    future = asyncio.Future()
    future.set_result(None)
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await wait(pending(future), return_when=asyncio.FIRST_COMPLETED)
    assert turns == [1]


async def test_whoever_waits_can_be_cancelled():
    future = asyncio.Future()
    waiting = asyncio.ensure_future(wait(pending(future), return_when=asyncio.FIRST_COMPLETED))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_task_is_not_cancelled_with_whoever_waits_for_it():
    async def live() -> int:
        await asyncio.sleep(0.01)
        return 5

    task = asyncio.ensure_future(live())
    waiting = asyncio.ensure_future(wait(pending(task), return_when=asyncio.FIRST_COMPLETED))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await task == 5


async def test_of_several_the_first_is_enough():
    first, second = asyncio.Future(), asyncio.Future()
    asyncio.get_running_loop().call_soon(second.set_result, 2)
    done, left = await wait(pending(first, second), return_when=asyncio.FIRST_COMPLETED)
    assert (done, left) == ({second}, {first})


def test_grpcio_waits_with_it_and_finds_all_else_of_asyncio(monkeypatch):
    monkeypatch.setattr(cygrpc, "asyncio", asyncio)
    main_loop.install()
    assert cygrpc.asyncio.wait is wait
    assert cygrpc.asyncio.Lock is asyncio.Lock
    assert cygrpc.asyncio.CancelledError is asyncio.CancelledError
    assert asyncio.wait is not wait
    installed = cygrpc.asyncio
    main_loop.install()
    assert cygrpc.asyncio is installed


def test_a_grpcio_without_that_name_is_left_alone(monkeypatch):
    monkeypatch.delattr(cygrpc, "asyncio")
    main_loop.install()
    assert not hasattr(cygrpc, "asyncio")
