"""The memory that doors share with the engine: blocks never overlap, come back, and are read where they lie."""

from __future__ import annotations

import gc
import os
import random

import pytest

from samplerd_server.core.errors import OverloadedError
from samplerd_server.transport.doors.arena import Arena, arena_bytes
from samplerd_server.transport.doors.window import Window

SIZE = 1 << 22


@pytest.fixture
def arena():
    return Arena(SIZE)


def test_blocks_in_use_never_overlap(arena):
    chance = random.Random(5)
    used: dict[int, int] = {}
    refused = []
    for _ in range(5000):
        if used and chance.random() < 0.5:
            offset = chance.choice(list(used))
            del used[offset]
            arena.give(offset)
            continue
        size = int(2 ** chance.uniform(0, 20))
        try:
            offset = arena.take(size)
        except OverloadedError as error:
            refused.append(error.reason)
            continue
        assert 0 <= offset <= SIZE - size
        assert all(offset + size <= own or own + length <= offset for own, length in used.items())
        used[offset] = size
        assert arena.blocks == len(used)
    assert set(refused) == {"queue_bytes"}
    for offset in used:
        arena.give(offset)
    assert arena.take(SIZE) == 0, "all free blocks are one again"
    with pytest.raises(OverloadedError):
        arena.take(1)


def test_what_is_larger_than_all_is_refused(arena):
    with pytest.raises(OverloadedError):
        arena.take(SIZE + 1)
    assert arena.blocks == 0


def test_a_lease_ends_with_its_last_view(arena):
    view = arena.lease(1000)
    view[:4] = b"rows"
    part = view[:4]
    del view
    gc.collect()
    assert arena.blocks == 1
    del part
    gc.collect()
    assert arena.blocks == 0


def test_pages_of_large_blocks_are_kept_for_the_next_and_bounded():
    own = Arena(1 << 29)
    blocks = [own.take(1 << 25) for _ in range(8)]
    for offset in blocks:
        own.give(offset)
    again = own.take(1 << 25)
    assert 0 < own.idle_bytes <= 128 << 20
    own.give(again)


def test_the_window_reads_what_the_arena_holds_and_says_what_it_reads_no_more(arena):
    window = Window(os.dup(arena.descriptor))
    offsets = [arena.put(bytes([number]) * 300) for number in range(3)]
    loans = [window.lend(offset, 300) for offset in offsets]
    assert [bytes(view) for view, _ in loans] == [bytes([number]) * 300 for number in range(3)]
    assert [address - loans[0][1] for _, address in loans] == [offset - offsets[0] for offset in offsets]
    assert window.has_loans
    assert window.take_returned() == []
    part = loans[1][0][:10]
    loans.clear()
    gc.collect()
    assert sorted(window.take_returned()) == sorted((offsets[0], offsets[2]))
    del part
    gc.collect()
    assert window.take_returned() == [offsets[1]]
    assert not window.has_loans


def test_a_window_outlives_its_arena():
    arena = Arena(SIZE)
    window = Window(os.dup(arena.descriptor))
    view, _ = window.lend(arena.put(b"still here"), 10)
    os.close(arena.descriptor)
    del arena
    gc.collect()
    assert bytes(view) == b"still here"


def test_nobody_can_cut_the_memory_under_a_reader(arena):
    with pytest.raises(PermissionError):
        os.ftruncate(arena.descriptor, 0)


def test_an_arena_holds_more_than_may_wait():
    assert arena_bytes(1 << 30, 1 << 20) >= 4 << 30
    assert arena_bytes(1 << 10, 1 << 26) >= 4 << 26
    assert arena_bytes(3, 5).bit_count() == 1
