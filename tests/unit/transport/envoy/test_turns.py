"""Who is read next when one connection sends many calls and another sends one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from samplerd_server.transport.envoy import turns as module
from samplerd_server.transport.envoy.turns import Turns

PLACES = module._PLACES


class Calls:
    """Calls whose messages come when the test says; `begun` lists whose reading began, in order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.turns = Turns(asyncio.get_running_loop(), lambda: self.now)
        self.begun: list[str] = []
        self._messages: list[asyncio.Future[None]] = []
        self.tasks: dict[str, list[asyncio.Task[Any]]] = {}

    async def send(self, connection: str, count: int = 1) -> None:
        """Send calls, and let all begin that may."""
        for _ in range(count):
            task = asyncio.create_task(self.turns.run(connection, lambda: self._read(connection)))
            self.tasks.setdefault(connection, []).append(task)
        await turn()

    async def _read(self, connection: str) -> str:
        self.begun.append(connection)
        self._messages.append(asyncio.get_running_loop().create_future())
        await self._messages[-1]
        return connection

    async def read(self, number: int) -> None:
        """Let the message come of the call that began as this one."""
        self._messages[number].set_result(None)
        await turn()

    async def end(self) -> None:
        """Let all messages come, and see that nothing is left."""
        number = 0
        while number < len(self._messages):
            if not self._messages[number].done():
                await self.read(number)
            number += 1
        assert all(task.done() for own in self.tasks.values() for task in own)
        assert (self.turns.waiting, self.turns._begun, self.turns._lines) == (0, 0, {})


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def calls(monkeypatch):
    monkeypatch.setattr(module, "_STALE_S", 3600.0)
    calls = Calls()
    yield calls
    if calls.turns._timer is not None:
        calls.turns._timer.cancel()


async def test_a_connection_that_is_alone_is_not_held_back(calls):
    await calls.send("greedy", 100)
    assert calls.begun == ["greedy"] * 100
    await calls.end()


async def test_beside_another_connection_it_has_its_places_and_the_other_waits_for_none_of_the_rest(calls):
    await calls.send("polite")
    await calls.send("greedy", 64)
    assert calls.begun == ["polite"] + ["greedy"] * PLACES
    assert calls.turns.waiting == 64 - PLACES
    await calls.send("polite")
    assert calls.begun[-1] == "polite"
    await calls.read(1)  # one of the greedy one's
    assert calls.begun[-1] == "greedy"
    assert calls.begun.count("greedy") == PLACES + 1
    await calls.end()
    assert calls.begun.count("greedy") == 64


async def test_calls_of_a_connection_begin_in_their_order(calls):
    await calls.send("polite")
    for _ in range(PLACES + 5):
        await calls.send("greedy")
    first, *rest = calls.tasks["greedy"]
    await calls.read(1)
    assert first.done()
    assert not any(task.done() for task in rest)
    await calls.end()


async def test_it_may_have_as_many_places_as_all_others_together(calls):
    for name in range(2 * PLACES):
        await calls.send(f"polite {name}")
    await calls.send("greedy", 64)
    assert calls.begun.count("greedy") == 2 * PLACES
    await calls.end()


async def test_once_the_others_have_gone_it_is_alone_again(calls):
    await calls.send("polite")
    await calls.send("greedy", PLACES + 1)
    assert calls.turns.waiting == 1
    await calls.read(0)
    calls.now += module._SHARED_S
    await calls.send("greedy", 50)
    assert calls.begun.count("greedy") == PLACES + 50
    await calls.end()


async def test_calls_whose_messages_do_not_come_hold_up_the_others_of_their_connection_for_a_moment_only(calls):
    calls.turns._timer = None
    await calls.send("polite")
    await calls.send("greedy", PLACES)
    calls.now += 0.5
    await calls.send("greedy", 2)
    assert calls.turns.waiting == 2
    calls.turns._timer.cancel()
    calls.turns._free_stale()  # nothing is stale yet
    assert calls.turns.waiting == 2
    calls.turns._timer.cancel()
    calls.now += 3600.0
    calls.turns._free_stale()
    await turn()
    assert calls.turns.waiting == 0
    assert calls.turns._timer is None
    assert calls.begun.count("greedy") == PLACES + 2
    await calls.end()


async def test_a_call_that_lost_its_place_leaves_the_calls_that_came_later_alone(calls):
    await calls.send("polite")
    await calls.send("greedy", PLACES + 1)
    calls.now += 3600.0
    calls.turns._timer.cancel()
    calls.turns._free_stale()
    await turn()
    await calls.read(PLACES + 1)  # the only one that has a place; the line of the connection ends
    await calls.send("polite")
    await calls.send("greedy", PLACES + 3)
    await calls.read(1)  # one of those that have lost theirs
    assert calls.turns.waiting == 3
    calls.now += 3600.0
    calls.turns._timer.cancel()
    calls.turns._free_stale()
    await turn()
    assert calls.turns.waiting == 0
    await calls.end()


async def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing_behind(calls):
    await calls.send("polite")
    await calls.send("greedy", PLACES + 2)
    waiting = calls.tasks["greedy"][PLACES]
    waiting.cancel()
    await turn()
    assert waiting.cancelled()
    assert calls.turns.waiting == 1
    await calls.read(1)
    assert calls.turns.waiting == 0
    await calls.end()


async def test_a_call_that_is_cancelled_as_its_turn_comes_gives_its_place_on(calls):
    await calls.send("polite")
    await calls.send("greedy", PLACES + 2)
    calls._messages[1].set_result(None)
    await asyncio.sleep(0)  # the first of those that wait has its turn, and has not begun to read
    calls.tasks["greedy"][PLACES].cancel()
    await turn()
    assert calls.begun.count("greedy") == PLACES + 1
    await calls.end()


async def test_a_message_that_cannot_be_read_gives_its_place_back(calls):
    async def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await calls.turns.run("greedy", fail)
    await calls.end()
