"""When a region is given up, by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from samplerd_server.transport.shared_memory import idle_regions
from samplerd_server.transport.shared_memory.idle_regions import IdleRegions


class Loop:
    """An event loop that has a clock and timers alone."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self.made = 0

    def time(self) -> float:
        return self.now_s

    def call_later(self, after_s: float, call: Callable[[], None]) -> SimpleNamespace:
        return self.call_at(self.now_s + after_s, call)

    def call_at(self, at_s: float, call: Callable[[], None]) -> SimpleNamespace:
        self.made += 1
        key = self.made
        self.timers[key] = at_s, call
        return SimpleNamespace(cancel=lambda: self.timers.pop(key))

    def pass_to(self, now_s: float) -> None:
        """Let time pass, and run what is due, in its order."""
        while due := [(at_s, key) for key, (at_s, _) in self.timers.items() if at_s <= now_s]:
            self.now_s, key = min(due)
            self.timers.pop(key)[1]()
        self.now_s = now_s


@pytest.fixture
def loop(monkeypatch) -> Loop:
    own = Loop()
    monkeypatch.setattr(idle_regions.asyncio, "get_running_loop", lambda: own)
    return own


def test_what_nobody_names_is_given_up_and_what_is_named_is_not(loop) -> None:
    gone: list[tuple[float, str]] = []
    idle = IdleRegions(10.0, lambda name: gone.append((loop.now_s, name)))
    idle.use("dead")
    loop.pass_to(104.0)
    idle.use("alive")
    loop.pass_to(109.0)
    idle.use("alive")
    loop.pass_to(118.0)
    assert gone == [(110.0, "dead")]
    loop.pass_to(130.0)
    assert gone[1:] == [(119.0, "alive")]
    assert not loop.timers


def test_what_is_unregistered_is_forgotten_with_its_timer(loop) -> None:
    gone: list[str] = []
    idle = IdleRegions(10.0, gone.append)
    idle.use("one")
    idle.use("two")
    idle.forget("one")
    assert len(loop.timers) == 1
    idle.forget("two")
    idle.forget("never there")
    assert not loop.timers
    idle.use("three")
    loop.pass_to(110.0)
    assert gone == ["three"]


def test_where_the_time_is_0_none_is_given_up(loop) -> None:
    idle = IdleRegions(0.0, lambda _: pytest.fail("given up"))
    idle.use("one")
    assert not loop.timers
    idle.forget("one")
