"""Whose call begins next when one connection has many and another has one."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from samplerd_server.transport.grpcio import lines as module
from samplerd_server.transport.grpcio.lines import Lines

PLACES = module._PLACES


class Calls:
    """Calls whose messages come when the test says; `begun` lists the connections of those that have begun."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines = Lines(asyncio.get_running_loop(), lambda: self.now)
        self.handed = deque()

    def send(self, connection, count=1):
        for _ in range(count):
            self.lines.add(connection, connection, self.now)

    def take(self, count=1):
        """Take calls, as grpcio's main loop does, one after the other; returns those that may begin now."""
        taken = []
        for _ in range(count):
            wanted = asyncio.get_running_loop().create_future()
            self.lines.ask(wanted, self.handed)
            if not wanted.done():
                wanted.cancel()
                break
            taken.append(wanted.result())
        return taken

    def read(self, count=1):
        """Let the messages come of the calls that began first."""
        for _ in range(count):
            self.handed.popleft().give_back()

    def end(self):
        """Read all, and see that nothing is left."""
        while self.handed:
            self.read()
            self.take()
        assert (self.lines.waiting, self.lines._begun, self.lines._lines, self.lines._ready) == (0, 0, {}, {})


@pytest.fixture
async def calls(monkeypatch):
    monkeypatch.setattr(module, "_STALE_S", 3600.0)
    calls = Calls()
    yield calls
    calls.lines.clear()


async def test_a_connection_that_is_alone_is_not_held_back(calls):
    calls.send("greedy", 100)
    assert calls.take(100) == ["greedy"] * 100
    calls.end()


async def test_beside_others_a_connection_has_few_calls_that_are_not_read_and_another_waits_for_none_of_the_rest(calls):
    calls.send("polite")
    calls.send("greedy", 64)
    assert calls.take(64) == ["polite", *["greedy"] * PLACES]
    assert calls.lines.waiting == 64 - PLACES
    calls.send("polite")
    assert calls.take(1) == ["polite"]
    assert calls.take(64) == ["greedy"]  # it may have one more than the other has
    calls.read(3)  # the polite one's first, and two of the greedy one's
    assert calls.take(64) == ["greedy"]
    calls.end()


async def test_connections_take_turns_for_what_takes_one_call_at_a_time(calls):
    calls.send("a", 3)
    calls.send("b", 3)
    calls.send("c", 1)
    begun = []
    for _ in range(7):
        begun += calls.take()
        calls.read()
    assert begun == ["a", "b", "c", "a", "b", "a", "b"]
    calls.end()


async def test_busy_connections_do_not_hold_each_other_back(calls):
    calls.send("a", 32)
    calls.send("b", 32)
    assert sorted(calls.take(64)) == ["a"] * 32 + ["b"] * 32
    calls.end()


async def test_what_asks_before_a_call_comes_gets_it_then(calls):
    wanted = [asyncio.get_running_loop().create_future() for _ in range(3)]
    for each in wanted:
        calls.lines.ask(each, calls.handed)
    wanted[0].cancel()  # it has stopped
    calls.send("a")
    assert not wanted[2].done()
    assert wanted[1].result() == "a"
    calls.send("b")
    assert wanted[2].result() == "b"
    calls.end()


async def test_after_a_second_without_others_a_connection_is_alone_again(calls):
    calls.send("polite")
    calls.send("greedy", 10)
    assert calls.take(11) == ["polite", *["greedy"] * PLACES]
    calls.now += module._SHARED_S
    calls.read(2)
    assert calls.take(11) == ["greedy"] * (10 - PLACES)
    calls.end()


async def test_a_place_is_given_back_once(calls):
    calls.send("polite")
    calls.send("greedy", 10)
    calls.take(11)
    turn = calls.handed[-1]
    for _ in range(3):
        turn.give_back()
    assert calls.take(11) == ["greedy"]
    calls.end()


async def test_calls_whose_messages_do_not_come_lose_their_places_to_those_that_wait(calls, monkeypatch):
    monkeypatch.setattr(module, "_STALE_S", 0.0)
    calls.send("polite")
    calls.send("greedy", PLACES + 1)
    assert calls.take(64) == ["polite", *["greedy"] * PLACES]
    wanted = asyncio.get_running_loop().create_future()
    calls.lines.ask(wanted, calls.handed)
    calls.now += 1.0
    assert await asyncio.wait_for(wanted, 30) == "greedy"
    calls.end()


async def test_what_waits_can_be_given_up(calls):
    calls.send("polite")
    calls.send("greedy", 10)
    calls.take(11)
    assert [turn.call for turn in calls.lines.clear()] == ["greedy"] * (10 - PLACES)
    calls.end()


async def test_once_opened_again_calls_begin_where_they_stood(calls):
    wanted = asyncio.get_running_loop().create_future()
    calls.lines.ask(wanted, calls.handed)
    calls.lines.close()
    calls.send("polite", 2)
    assert not wanted.done()
    assert calls.lines.reading == 0
    calls.lines.open()
    assert wanted.result() == "polite"
    assert calls.lines.reading == 1
    assert calls.lines.waiting == 1


async def test_once_closed_no_call_begins_and_all_can_be_given_up(calls):
    calls.send("polite")
    assert calls.take(2) == ["polite"]
    wanted = asyncio.get_running_loop().create_future()
    calls.lines.ask(wanted, calls.handed)
    calls.lines.close()
    calls.send("polite", 2)
    calls.send("other")
    calls.read()  # which would let the next begin
    assert not wanted.done()
    assert calls.lines.waiting == 3
    assert sorted(turn.call for turn in calls.lines.clear()) == ["other", "polite", "polite"]
    assert calls.lines.waiting == 0
    wanted.cancel()
