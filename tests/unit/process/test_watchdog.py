"""What counts as a stall, and what the watchdog does about it."""

from __future__ import annotations

import threading

from samplerd_server.process.service_manager import ServiceManager
from samplerd_server.process.watchdog import Progress, StallDetector, Watchdog
from tests.support.notify import NotifySocket

WAIT_S = 30.0


def test_busy_without_progress_for_as_many_ticks_is_a_stall():
    detector = StallDetector(3)
    assert [detector.is_stalled(Progress(7, is_busy=True)) for _ in range(5)] == [False, False, False, True, True]
    assert not detector.is_stalled(Progress(8, is_busy=True))


def test_idle_is_no_stall():
    detector = StallDetector(1)
    assert not any(detector.is_stalled(Progress(0, is_busy=False)) for _ in range(5))


def test_slow_progress_is_no_stall():
    detector = StallDetector(2)
    assert not any(detector.is_stalled(Progress(tick // 2, is_busy=True)) for tick in range(20))


class Watched:
    """A server whose progress the test decides."""

    def __init__(
        self, *, loop_turns: bool, limit_s: float = 0.08, service_manager: ServiceManager | None = None
    ) -> None:
        self.turns = 0
        self.loop_turns = loop_turns
        self.told: list[str] = []
        self.left = threading.Event()
        self.watchdog = Watchdog(
            limit_s,
            event_loop=self._event_loop,
            device=lambda: Progress(0, is_busy=loop_turns),
            on_device_stall=self._fail,
            leave=self._leave,
            service_manager=service_manager,
        )

    def _event_loop(self) -> Progress:
        self.turns += self.loop_turns
        return Progress(self.turns, is_busy=True)

    def _fail(self, why, answered) -> None:
        self.told.append(f"failed: {why}")
        answered()

    def _leave(self, why) -> None:
        self.told.append(f"left: {why}")
        self.left.set()


def test_a_device_that_hangs_has_its_requests_failed_first():
    watched = Watched(loop_turns=True)
    watched.watchdog.start()
    assert watched.left.wait(WAIT_S)
    watched.watchdog.stop()
    assert [own.partition(":")[0] for own in watched.told] == ["failed", "left"]
    assert "the device has not finished a batch for 0.08 s" in watched.told[1]


def test_an_event_loop_that_hangs_ends_the_process_at_once():
    watched = Watched(loop_turns=False)
    watched.watchdog.start()
    assert watched.left.wait(WAIT_S)
    watched.watchdog.stop()
    assert watched.told == ["left: the event loop has not turned for 0.08 s (--stall-limit)"]


def test_without_a_limit_nothing_is_watched():
    idle = Watchdog(0.0, event_loop=None, device=None, on_device_stall=None, leave=None)  # type: ignore[arg-type]
    idle.start()
    idle.stop()
    assert "samplerd-watchdog" not in {thread.name for thread in threading.enumerate()}


def test_the_service_manager_gets_signs_of_life_until_a_stall(tmp_path):
    with NotifySocket(tmp_path) as heard:
        watched = Watched(loop_turns=False, limit_s=0.4, service_manager=ServiceManager(str(heard.path), 3600.0))
        watched.watchdog.start()
        assert watched.left.wait(WAIT_S)
        watched.watchdog.stop()
        # The first tick shows where the loop is, the ninth that it has stalled for eight.
        assert [heard.hear() for _ in range(8)] == [{"WATCHDOG": "1"}] * 8
        assert heard.has_heard_all()


def test_signs_of_life_are_given_without_a_limit_too(tmp_path):
    with NotifySocket(tmp_path) as heard:
        watched = Watched(loop_turns=False, limit_s=0.0, service_manager=ServiceManager(str(heard.path), 0.08))
        watched.watchdog.start()
        assert [heard.hear() for _ in range(20)] == [{"WATCHDOG": "1"}] * 20
        watched.watchdog.stop()
        assert not watched.told
