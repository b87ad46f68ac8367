"""The pulse of the engine behind a door: when it is asked, and what a door is told of it."""

from __future__ import annotations

import asyncio

import pytest

from samplerd_server.core.errors import UnavailableError
from samplerd_server.transport.doors import pulse as pulse_module
from samplerd_server.transport.doors.pulse import Pulse

WAIT_S = 30.0


class Link:
    """A link whose engine answers when a test lets it."""

    def __init__(self) -> None:
        self.channel: object | None = object()
        self.asked = 0
        self.told: list[bool] = []
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def drawn(self) -> None:
        self.asked += 1
        await asyncio.shield(self.answer)

    def tell(self, *, is_there: bool) -> None:
        self.told.append(is_there)

    async def until(self, told: list[bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.told != told:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.fixture
async def link(monkeypatch):
    monkeypatch.setattr(pulse_module, "_EVERY_S", 0.001)
    monkeypatch.setattr(pulse_module, "SILENT_S", 0.03)
    own = Link()
    pulse = Pulse(own)  # type: ignore[arg-type]
    pulse.start()
    yield own
    pulse.stop()


async def test_a_silent_engine_is_told_and_that_it_answers_again(link):
    await link.until([False])
    link.answer.set_result(None)
    await link.until([False, True])


async def test_an_engine_that_ends_while_it_is_silent_is_left_to_the_link(link):
    await link.until([False])
    link.channel = None
    link.answer.set_exception(UnavailableError("the engine has ended"))
    asked = link.asked
    await asyncio.sleep(0.05)
    assert (link.asked, link.told) == (asked, [False])


async def test_an_engine_that_is_not_there_is_not_asked(link):
    """A question that finds no engine counts as a refused request, and nobody has sent one."""
    link.channel = None
    link.answer.set_result(None)
    await asyncio.sleep(0.02)  # what was asked before has its answer
    asked = link.asked
    await asyncio.sleep(0.05)
    assert link.asked == asked
