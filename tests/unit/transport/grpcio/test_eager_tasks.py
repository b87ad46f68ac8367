"""Tasks without turns of their own do what those of asyncio do."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context

import pytest

from samplerd_server.transport.grpcio import batches
from samplerd_server.transport.grpcio.batches import Waiter
from samplerd_server.transport.grpcio.eager_tasks import EagerTask

NAME: ContextVar[str] = ContextVar("NAME")
TURNS = 5


def new_task():
    return EagerTask(asyncio.get_running_loop(), copy_context())


def new_future():
    return asyncio.get_running_loop().create_future()


async def turns():
    for _ in range(TURNS):
        await asyncio.sleep(0)


@pytest.fixture
def batch(monkeypatch):
    """What grpcio's batches are here: each waits once, and appends itself to the list once it has ended."""
    ended = []

    async def begin(call, _operations, waiter):
        await waiter.create_future()
        ended.append(call)

    monkeypatch.setattr(batches, "begin", begin)
    return ended


async def test_the_first_step_runs_at_once_and_the_next_when_the_future_is_done():
    said, future = [], new_future()

    async def body():
        said.append("began")
        said.append(await future)
        await asyncio.sleep(0)
        said.append("ended")

    task = new_task().run(body())
    assert said == ["began"]
    future.set_result("went on")
    await turns()
    assert (said, task.done()) == (["began", "went on", "ended"], True)


async def test_each_step_runs_in_the_context_of_the_task():
    seen, future = [], new_future()

    async def body():
        NAME.set("own")
        await future
        seen.append(NAME.get())

    NAME.set("outer")
    new_task().run(body())
    future.set_result(None)
    await turns()
    assert (seen, NAME.get()) == (["own"], "outer")


async def test_a_cancelled_task_cancels_what_it_waits_for():
    ends, future = [], new_future()

    async def body():
        try:
            await future
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    task = new_task().run(body())
    task.cancel()
    assert future.cancelled()
    await turns()
    assert (ends, task.done()) == (["cancelled"], True)
    task.cancel()  # it has ended: nothing happens


async def test_a_task_is_cancelled_although_its_future_is_done_already():
    said, future = [], new_future()

    async def body():
        said.append(await future)

    task = new_task().run(body())
    future.set_result("a result")
    task.cancel()
    await turns()
    assert (said, task.done()) == ([], True)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_task_waits_for_another_and_raises_what_that_raised():
    said, future = [], new_future()

    async def child():
        await future
        raise LookupError("of the child")

    async def parent():
        try:
            await running
        except LookupError as error:
            said.append(str(error))

    running = new_task().run(child())
    task = new_task().run(parent())
    future.set_result(None)
    await turns()
    assert (said, task.done()) == (["of the child"], True)


async def test_callbacks_are_called_although_one_of_them_fails():
    said, told = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, values: told.append(values["exception"]))
    future = new_future()

    async def body():
        await future

    def fail(_):
        raise LookupError

    task = new_task().run(body())
    task.add_done_callback(fail)
    task.add_done_callback(said.append)
    future.set_result(None)
    await turns()
    task.add_done_callback(said.append)
    assert [type(error) for error in told] == [LookupError]
    await turns()
    assert said == [task, task]


async def test_a_task_goes_on_in_the_call_that_ends_its_batch(batch):
    said, task = [], new_task()
    waiter = Waiter(asyncio.get_running_loop(), task)

    async def body():
        await batches.execute_batch("call", (object(),), waiter)
        said.append("sent")

    task.run(body())
    assert not task.done()
    waiter.call_soon_threadsafe(waiter.set_result, None)
    assert (said, batch, task.done()) == (["sent"], ["call"], True)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_batch_ends_before_its_task_fails(batch, is_cancelled):
    ends, task = [], new_task()
    waiter = Waiter(asyncio.get_running_loop(), task)

    async def body():
        try:
            await batches.execute_batch("call", (object(),), waiter)
        except BaseException as error:
            ends.append((type(error), list(batch)))
            raise

    task.run(body())
    if is_cancelled:
        task.cancel()
        await turns()
        assert not task.done()
        waiter.set_result(None)
    else:
        waiter.set_exception(LookupError())
    assert ends == [(asyncio.CancelledError if is_cancelled else LookupError, ["call"])]
    assert task.done()


async def test_a_batch_that_ends_on_another_thread_wakes_its_task_on_the_loop(batch):
    ended, task = new_future(), new_task()
    waiter = Waiter(asyncio.get_running_loop(), task)

    async def body():
        await batches.execute_batch("call", (object(),), waiter)
        ended.set_result(asyncio.get_running_loop())

    task.run(body())
    await asyncio.to_thread(waiter.call_soon_threadsafe, waiter.set_result, None)
    assert await asyncio.wait_for(ended, 10) is asyncio.get_running_loop()
    assert batch == ["call"]
