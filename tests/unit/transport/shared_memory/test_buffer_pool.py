"""Memory that is used again: never by two at once, never more of it kept than allowed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from samplerd_server.transport.shared_memory.buffer_pool import BufferPool

LARGE = 256 << 10


def address(buffer) -> int:
    return np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]


@pytest.mark.parametrize("size", [1, 100, 65535, 65536, 65537, LARGE, LARGE + 1])
def test_a_buffer_has_the_size_that_was_asked_for_and_can_be_written(size):
    buffer = BufferPool(1 << 20).lease(size)
    assert (len(buffer), buffer.nbytes, buffer.itemsize, buffer.readonly) == (size, size, 1, False)
    buffer[:] = bytes([7]) * size
    assert bytes(buffer) == bytes([7]) * size


def test_what_is_freed_is_used_again_and_what_is_held_is_not():
    pool = BufferPool(1 << 20)
    first = pool.lease(LARGE)
    held = address(first)
    second = pool.lease(LARGE)
    assert address(second) != held
    view = np.frombuffer(first, np.float32)[10:20]  # as a batch holds it
    del first
    assert pool.idle_bytes == 0
    del view
    assert pool.idle_bytes == LARGE
    again = pool.lease(LARGE - 1)  # a little less shares the block
    assert (address(again), len(again), pool.idle_bytes) == (held, LARGE - 1, 0)
    again = pool.lease(2 * LARGE)
    assert pool.idle_bytes == LARGE


def test_no_more_is_kept_than_allowed():
    pool = BufferPool(4 * LARGE)
    buffers = [pool.lease(LARGE) for _ in range(10)]
    buffers.clear()
    assert pool.idle_bytes == 4 * LARGE
    pool.lease(8 * LARGE)
    assert pool.idle_bytes == 4 * LARGE, "larger than the bound: not kept, and nothing made room for it"


def test_the_size_that_was_used_longest_ago_makes_room():
    pool = BufferPool(4 * LARGE)
    buffers = [pool.lease(2 * LARGE), pool.lease(2 * LARGE)]
    buffers.clear()
    pool.lease(LARGE)
    assert pool.idle_bytes == 3 * LARGE
    kept = pool.lease(2 * LARGE)
    assert pool.idle_bytes == LARGE
    del kept
    assert pool.idle_bytes == 3 * LARGE


def test_small_buffers_are_the_allocators():
    pool = BufferPool(1 << 20)
    pool.lease(1000)
    assert pool.idle_bytes == 0


def test_a_buffer_freed_while_the_pool_is_at_work_is_not_waited_for():
    # The collector may free one at any point, even inside the pool itself.
    pool = BufferPool(1 << 20)
    buffer = pool.lease(LARGE)
    with pool._lock:
        del buffer
    assert pool.idle_bytes == 0


def test_threads_that_free_and_one_that_takes():
    pool = BufferPool(8 * LARGE)
    faults: list[int] = []

    def use(number: int, buffer: memoryview) -> None:
        numbers = np.frombuffer(buffer, np.uint8)
        if not all((numbers == number).all() for _ in range(3)):
            faults.append(number)

    for turn in range(60):
        threads = []
        for number in range(4):
            buffer = pool.lease(LARGE)
            buffer[:] = bytes([number + turn]) * LARGE
            threads.append(threading.Thread(target=use, args=(number + turn, buffer)))
            del buffer
            threads[-1].start()
        for thread in threads:
            thread.join()
    assert faults == []
    assert pool.idle_bytes <= 8 * LARGE


class Pool(RuleBasedStateMachine):
    """Takes and frees in any order: nobody's bytes are anybody else's, and the count is right."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BufferPool(3 << 20)
        self.held: list[tuple[int, memoryview]] = []
        self.next = 0

    @rule(size=st.integers(0, 20).map(lambda n: n * 50_000))
    def take(self, size):
        buffer = self.pool.lease(size)
        self.next = (self.next + 1) % 256
        buffer[:] = bytes([self.next]) * size
        self.held.append((self.next, buffer))

    @rule(data=st.data())
    def free(self, data):
        if self.held:
            self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @invariant()
    def nothing_is_shared_and_the_bound_holds(self):
        for number, buffer in self.held:
            assert not len(buffer) or (buffer[0], buffer[-1]) == (number, number)
        idle = sum(size * len(blocks) for size, blocks in self.pool._idle.items())
        assert self.pool.idle_bytes == idle <= 3 << 20
        assert all(self.pool._idle.values())


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
