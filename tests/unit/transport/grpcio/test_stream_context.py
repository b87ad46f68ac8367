"""Streams of grpcio read and write many messages in one go, over a core of which the test ends each operation."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from samplerd_server.transport.grpcio import stream_context as module
from samplerd_server.transport.grpcio.stream_context import StreamContext

SMALL = b"small"
LARGE = bytes(module._SMALL_BYTES + 1)


class Core:
    """What grpcio would do: operations wait for a future of the loop that they are given, until the test ends them."""

    def __init__(self) -> None:
        self.read: Any = None
        self.write: Any = None
        self.written: list[tuple[bytes, bool]] = []
        """Messages, and whether each may wait in grpcio's buffer."""

    def context(self, _call, _deserializer, _serializer, loop):
        core = self

        class Context:
            async def read(self):
                assert core.read is None, "two reads at once"
                core.read = loop.create_future()
                await core.read
                if isinstance(core.message, Exception):
                    raise core.message
                return core.message

            async def write(self, message):
                core.written.append((message, False))
                core.write = loop.create_future()
                await core.write

        return Context()

    async def execute_batch(self, _call, operations, loop):
        self.written += operations
        self.write = loop.create_future()
        await self.write

    @staticmethod
    def send(message, flags):
        assert flags == 1
        return message, True

    def come(self, *messages):
        for message in messages:
            read, self.read, self.message = self.read, None, message
            read.set_result(None)

    def end_writes(self, count):
        for _ in range(count):
            self.write.set_result(None)


class Context:
    """grpc.aio's own."""

    def peer(self):
        return "ipv4:127.0.0.1:1"


@pytest.fixture
def core(monkeypatch):
    core = Core()
    monkeypatch.setattr(module, "_Context", core.context)
    monkeypatch.setattr(module, "begin", core.execute_batch)
    monkeypatch.setattr(module, "_SendMessage", core.send)
    return core


@pytest.fixture
async def stream(core):
    stream = StreamContext(Context(), object())
    yield stream
    stream.close()


async def begin(coroutine):
    """Begin a coroutine, and let it come to where it waits."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def test_all_that_has_come_is_read_in_one_go_and_no_more_than_there_is_room_for(core, stream):
    reading = await begin(stream.read_many(3))
    core.come(b"a", b"b", b"c")
    assert core.read is None  # nobody has room for a fourth
    assert await reading == [b"a", b"b", b"c"]
    reading = await begin(stream.read_many(16))
    core.come(b"d", grpc.aio.EOF)
    assert await reading == [b"d"]
    assert await stream.read_many(16) == []
    assert core.read is None


async def test_what_comes_ahead_is_read_until_it_has_many_bytes(core, stream, monkeypatch):
    monkeypatch.setattr(module, "_AHEAD_BYTES", 2 * len(LARGE))
    reading = await begin(stream.read_many(16))
    core.come(LARGE, LARGE)
    assert core.read is None
    assert await reading == [LARGE, LARGE]
    assert core.read is not None  # there is room for fourteen others


async def test_small_messages_wait_for_each_other_while_replies_are_written(core, stream):
    writing = await begin(stream.write_many([b"1"]))
    reading = await begin(stream.read_many(16))
    core.come(SMALL)
    await asyncio.sleep(0)
    assert not reading.done()
    core.end_writes(1)
    await writing
    assert await reading == [SMALL]


@pytest.mark.parametrize("messages", [[SMALL] * module._MOST_HELD, [SMALL, LARGE], [SMALL, grpc.aio.EOF]])
async def test_many_messages_or_a_large_one_or_the_last_do_not_wait(core, stream, messages):
    writing = await begin(stream.write_many([b"1"]))
    reading = await begin(stream.read_many(16))
    core.come(*messages)
    assert await reading == [message for message in messages if isinstance(message, bytes)]
    assert not writing.done()
    core.end_writes(1)
    await writing


async def test_only_the_last_of_many_messages_leaves_at_once_and_the_first_brings_the_metadata(core, stream):
    writing = await begin(stream.write_many([b"1", b"2", b"3"]))
    assert core.written == [(b"1", False)]  # by grpcio's own write, which sends the initial metadata
    core.end_writes(3)
    await writing
    writing = await begin(stream.write_many([b"4", b"5"]))
    assert core.written[1:] == [(b"2", True), (b"3", False), (b"4", True)]
    core.end_writes(2)
    await writing
    assert core.written[-1] == (b"5", False)


async def test_nothing_is_written_after_a_failure(core, stream):
    writing = await begin(stream.write_many([b"1", b"2"]))
    core.write.set_exception(grpc.aio.InternalError("the client has gone"))
    with pytest.raises(grpc.aio.InternalError, match="has gone"):
        await writing
    assert len(core.written) == 1


async def test_nothing_is_written_after_a_cancellation(core, stream):
    writing = await begin(stream.write_many([b"1", b"2"]))
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    core.end_writes(1)
    assert len(core.written) == 1


async def test_nothing_is_read_once_the_handler_has_ended(core, stream):
    reading = await begin(stream.read_many(16))
    stream.close()
    core.come(SMALL)
    assert core.read is None
    reading.cancel()


async def test_the_error_of_a_read_is_raised_once_what_came_before_is_taken(core, stream):
    reading = await begin(stream.read_many(16))
    core.come(SMALL, grpc.aio.InternalError("the call is over"))
    assert await reading == [SMALL]
    with pytest.raises(grpc.aio.InternalError, match="is over"):
        await stream.read_many(16)


async def test_a_read_that_fails_is_the_end_of_messages(core, stream):
    reading = await begin(stream.read_many(16))
    core.message = grpc.aio.EOF
    core.read.set_exception(cygrpc.ExecuteBatchError("the client has gone"))
    assert await reading == []


async def test_an_operation_that_ends_on_another_thread_ends_on_the_loop(core, stream):
    reading = await begin(stream.read_many(16))
    threads = []
    operation = core.read

    def end():
        threads.append(threading.get_ident())
        core.come(SMALL)

    await asyncio.to_thread(operation.call_soon_threadsafe, end)
    assert await reading == [SMALL]
    assert threads == [threading.get_ident()]


async def test_it_has_all_that_the_context_has(stream):
    assert stream.peer() == "ipv4:127.0.0.1:1"
