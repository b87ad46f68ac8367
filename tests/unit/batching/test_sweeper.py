"""When places in the queue are given back, with a loop and a clock that do as the test says."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from samplerd_server.batching.sweeper import Sweeper


class Loop:
    """Keeps what is due; `now` grows by what a sweep takes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[SimpleNamespace] = []

    def call_later(self, delay, callback):
        handle = SimpleNamespace(at=self.now + delay, callback=callback)
        handle.cancel = lambda: self.due.remove(handle)
        self.due.append(handle)
        return handle

    def call_soon(self, callback):
        return self.call_later(0.0, callback)

    def run(self, until: float) -> None:
        while ready := [handle for handle in self.due if handle.at <= until]:
            for handle in ready:
                self.due.remove(handle)
                self.now = max(self.now, handle.at)
                handle.callback()


class Batcher:
    """Takes note of the time of each sweep."""

    def __init__(self, loop: Loop, takes_s: float) -> None:
        self._loop, self._takes_s = loop, takes_s
        self.swept: list[float] = []

    def sweep(self, now: float) -> None:
        self.swept.append(now)
        self._loop.now += self._takes_s


@pytest.fixture(params=[0.0, 0.002])
def bench(request, monkeypatch):
    loop = Loop()
    monkeypatch.setattr("samplerd_server.batching.sweeper.time", SimpleNamespace(monotonic=lambda: loop.now))
    batcher = Batcher(loop, request.param)
    return SimpleNamespace(loop=loop, batcher=batcher, takes_s=request.param, sweeper=Sweeper(batcher, loop))


def test_many_that_are_cancelled_in_one_turn_are_one_sweep_in_the_same_turn(bench):
    for _ in range(100):
        bench.sweeper.soon()
    bench.loop.run(bench.loop.now)
    assert bench.batcher.swept == [100.0]
    assert bench.loop.due == []


def test_sweeping_takes_a_tenth_of_the_time_at_most(bench):
    for _ in range(200):
        bench.sweeper.soon()
        bench.loop.run(101.0)
    swept = bench.batcher.swept
    assert len(swept) == (200 if bench.takes_s == 0 else min(200, round(1.0 / (11 * bench.takes_s)) + 1))
    gaps = [later - before for before, later in itertools.pairwise(swept)]
    assert min(gaps) == pytest.approx(11 * bench.takes_s)


def test_it_sweeps_by_itself_too_until_it_is_stopped(bench):
    bench.sweeper.start()
    bench.loop.run(100.35)
    assert len(bench.batcher.swept) == bench.sweeper.beats == 3
    bench.sweeper.soon()
    bench.sweeper.stop()
    assert bench.loop.due == []
