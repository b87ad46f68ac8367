"""How a large draw is cut into parts, and that no more of them are drawn than are read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import DeadlineError, OverloadedError
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.result import SampleResult, Timing
from samplerd_server.transport.rpc.large_draws import LargeDraws, parts
from tests.support.cdf_index import by_name, draw_indexed, store_rows
from tests.support.samplers import draw, make_sampler, request


def large(rows: int, samples: int, **fields):
    numbers = np.random.default_rng(rows).normal(size=(rows, 20))
    asked = request(numbers, num_samples=samples, seed=9, work=rows * samples, **fields)
    return by_name(asked, store_rows(asked))


@given(
    rows=st.integers(1, 9),
    samples=st.integers(1, 50),
    chunk=st.integers(1, 60),
    has_row_seeds=st.booleans(),
    first=st.integers(0, 3),
)
def test_the_parts_draw_one_after_the_other_what_the_whole_draws(rows, samples, chunk, has_row_seeds, first):
    whole = large(rows, samples, draw_offset=first)
    if has_row_seeds:
        whole = replace(whole, row_seeds=np.arange(rows, dtype=np.uint64))
    cut = list(parts(whole, chunk))
    assert all(part.samples <= max(chunk, 1) for part in cut)
    assert sum(part.samples for part in cut) == whole.samples
    # No more parts than are needed by rows and by draws.
    assert len(cut) <= max(rows * -(-samples // chunk), 1)
    want = draw_indexed(whole).tolist()
    assert np.concatenate([draw_indexed(part) for part in cut]).tolist() == want
    by_rows = [draw(make_sampler("numba"), replace(part, cdf_index=None)).samples for part in cut]
    assert np.concatenate(by_rows).tolist() == want


def test_each_row_keeps_its_parameters():
    own = tuple(SamplingParams(temperature=t) for t in (0.0, 1.0, 0.0))
    whole = replace(large(3, 4), params=own, greedy_rows=2, cdf_index=None)
    cut = list(parts(whole, 4))
    assert [part.params for part in cut] == [(params,) for params in own]
    assert [part.greedy_rows for part in cut] == [1, 0, 1]


class Reader:
    """A device that draws at once, and a writer that writes when told."""

    def __init__(self) -> None:
        self.drawn = 0
        self.admitted: list[bool] = []
        self.messages: list = []
        self.sizes: list[int] = []

    def submit(self, part, deadline, connection, *, is_first):
        assert (deadline, connection) == (7.0, "a")
        self.drawn += 1
        self.admitted.append(is_first)
        reply = asyncio.get_running_loop().create_future()
        reply.set_result(
            SampleResult(
                samples=draw_indexed(part), row_errors=(), timing=Timing(queue_s=0.0, compute_s=0.0, batch_rows=1)
            )
        )
        return reply

    def put(self, messages, size):
        self.messages.append(messages)
        self.sizes.append(size)

    async def write(self, count: int) -> list[pb.SampleResponse]:
        written = []
        for _ in range(count):
            await settle()
            written += [pb.SampleResponse.FromString(message) for message in self.messages.pop(0)]
        return written


def put_into(sink: list, messages, size) -> None:
    sink.append((messages, size))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_chunks_are_drawn_as_they_are_written():
    reader, whole = Reader(), large(1, 100)
    task = asyncio.create_task(LargeDraws(reader.submit, 10).run(whole, reader.put, 7.0, "a"))
    await settle()
    assert reader.drawn == 2
    replies = await reader.write(3)
    await settle()
    assert reader.drawn == 5
    replies += await reader.write(7)
    await task
    assert [reply.chunk for reply in replies] == list(range(10))
    assert [reply.final for reply in replies] == [False] * 9 + [True]
    assert [reply.HasField("timing") for reply in replies] == [True] + [False] * 9
    assert [token for reply in replies for token in reply.samples] == draw_indexed(whole).tolist()
    assert reader.admitted == [True] + [False] * 9
    assert reader.sizes == [reply.ByteSize() for reply in replies]


async def test_a_chunk_without_room_waits_for_the_one_before_it():
    reader, whole = Reader(), large(1, 30)

    def put(messages, size):
        if reader.messages:
            raise OverloadedError("full", reason="reply_bytes", retry_after_s=1.0)
        reader.put(messages, size)

    task = asyncio.create_task(LargeDraws(reader.submit, 10).run(whole, put, 7.0, "a"))
    replies = await reader.write(3)
    await task
    assert [token for reply in replies for token in reply.samples] == draw_indexed(whole).tolist()


@pytest.mark.parametrize("accepted", [0, 1])
async def test_a_draw_fails_where_others_hold_the_room(accepted):
    reader, whole = Reader(), large(1, 30)

    def put(messages, size):
        if len(reader.sizes) == accepted:
            raise OverloadedError("full", reason="reply_bytes", retry_after_s=1.0)
        reader.put(messages, size)

    task = asyncio.create_task(LargeDraws(reader.submit, 10).run(whole, put, 7.0, "a"))
    await reader.write(accepted)
    with pytest.raises(OverloadedError):
        await task


async def test_a_chunk_is_drawn_when_it_is_asked_for():
    reader, whole = Reader(), large(1, 35)
    chunks = LargeDraws(reader.submit, 10).chunks(whole, 7.0, "a")
    replies = []
    for drawn in (1, 2, 3, 4):
        replies.append(pb.SampleResponse.FromString(await anext(chunks)))
        await settle()
        assert reader.drawn == drawn
    assert await anext(chunks, None) is None
    assert [(reply.chunk, reply.final, len(reply.samples)) for reply in replies] == [
        *((at, False, 10) for at in range(3)),
        (3, True, 5),
    ]
    assert [token for reply in replies for token in reply.samples] == draw_indexed(whole).tolist()
    assert reader.admitted == [True, False, False, False]


async def test_chunks_that_nobody_asks_for_hold_no_turn():
    reader = Reader()
    draws = LargeDraws(reader.submit, 10)
    paused = [draws.chunks(large(1, 40), 7.0, "a") for _ in range(5)]
    for chunks in paused:
        await anext(chunks)
    assert len([chunk async for chunk in draws.chunks(large(1, 40), 7.0, "a")]) == 4
    for chunks in paused:
        await chunks.aclose()


async def test_a_cancelled_wait_for_a_chunk_gives_its_turn_back():
    waiting: list[asyncio.Future] = []

    def submit(part, deadline, connection, *, is_first):
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    draws = LargeDraws(submit, 10)
    tasks = [asyncio.create_task(anext(draws.chunks(large(1, 40), 7.0, "a"))) for _ in range(3)]
    await settle()
    assert len(waiting) == 2
    tasks[0].cancel()
    await settle()
    assert waiting[0].cancelled()
    assert len(waiting) == 3
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_nothing_more_is_drawn_once_it_is_cancelled():
    reader = Reader()
    task = asyncio.create_task(LargeDraws(reader.submit, 10).run(large(1, 100), reader.put, 7.0, "a"))
    await settle()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert reader.drawn == 2


async def test_many_large_draws_take_turns():
    """Whatever their number, two of their chunks are at the device, and none is drawn twice while another waits."""
    waiting: list[tuple[int, asyncio.Future]] = []

    def submit(part, deadline, connection, *, is_first):
        reply = asyncio.get_running_loop().create_future()
        waiting.append((part.seed, reply))
        return reply

    draws = LargeDraws(submit, 10)
    sinks: list[list] = [[] for _ in range(4)]
    tasks = [
        asyncio.create_task(draws.run(replace(large(1, 40), seed=at), partial(put_into, sinks[at]), 7.0, "a"))
        for at in range(4)
    ]
    order = []
    for _ in range(8):
        await settle()
        assert len(waiting) == min(2, 8 - len(order))  # the sinks are not read: each draws two chunks
        seed, reply = waiting.pop(0)
        order.append(seed)
        reply.set_result(
            SampleResult(
                samples=np.zeros(10, np.int32), row_errors=(), timing=Timing(queue_s=0.0, compute_s=0.0, batch_rows=1)
            )
        )
    assert sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_part_that_fails_ends_the_draw():
    def submit(part, deadline, connection, *, is_first):
        reply = asyncio.get_running_loop().create_future()
        reply.set_exception(DeadlineError("late"))
        return reply

    with pytest.raises(DeadlineError):
        await anext(LargeDraws(submit, 10).chunks(large(1, 40), 7.0, "a"))
    with pytest.raises(DeadlineError):
        await LargeDraws(submit, 10).run(large(1, 40), lambda *_: None, 7.0, "a")
