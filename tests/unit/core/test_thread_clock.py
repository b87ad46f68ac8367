"""The processor time of a thread, read from another."""

from __future__ import annotations

import threading
import time

from samplerd_server.core.thread_clock import ThreadClock

COMPUTES_S = 0.05


class Watched:
    """A thread with its clock, that computes for a while and then waits to be let go."""

    def __init__(self, computes_s: float) -> None:
        self._computes_s = computes_s
        self._may_end = threading.Event()
        self._has_computed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._has_computed.wait(30)

    def _run(self) -> None:
        self.clock = ThreadClock()
        while time.thread_time() < self._computes_s:
            pass
        self._has_computed.set()
        self._may_end.wait(30)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join()


def test_a_thread_that_computes_is_told_from_one_that_waits():
    computing, waiting = Watched(COMPUTES_S), Watched(0.0)
    assert computing.clock.seconds >= COMPUTES_S > waiting.clock.seconds
    computing.end()
    waiting.end()


def test_the_time_of_a_thread_that_has_ended_stays():
    computing = Watched(COMPUTES_S)
    assert computing.clock.seconds >= COMPUTES_S
    computing.end()
    until = time.monotonic() + 30
    last = computing.clock.seconds
    while computing.clock._clock is not None:  # the system still ends a thread that Python has joined
        assert time.monotonic() < until
        last = computing.clock.seconds
    assert COMPUTES_S <= last == computing.clock.seconds
