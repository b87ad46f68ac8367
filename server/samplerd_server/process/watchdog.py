"""The watchdog: a thread that ends the process if the device or the event loop makes no progress for too long.

Rule 1: it compares counts at its own ticks and looks at no clock, so neither a clock that jumps nor a process that was
stopped and goes on looks like a stall. Rule 2: if only the device hangs, requests are failed first, with a reason that
tells clients to ask another server. Rule 3: the exit code is `STALLED`, and whoever started the process starts it
again. Rule 4: a service manager that expects signs of life gets them from this thread, so that it notices what the
thread cannot: native code that keeps the interpreter's lock stops this thread too.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

from samplerd_server.core.named_thread import NamedThread
from samplerd_server.process.log import event
from samplerd_server.process.service_manager import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STALLED", "Progress", "StallDetector", "Watchdog"]

STALLED = 3
"""The exit code of a process whose device or event loop has stalled."""
_TICKS = 8
"""Ticks within the limit: a stall is noticed at most an eighth of the limit late."""
_MOST_TICK_S = 1.0
_ANSWER_S = 2.0
"""Seconds in which the requests that are failed may be answered."""
_LOG = logging.getLogger("samplerd")


class Progress(NamedTuple):
    """How far something has come."""

    steps: int
    """Steps that are finished."""
    is_busy: bool
    """Whether another step should be finished soon."""


class StallDetector:
    """Tells whether something that is busy has made no progress for a number of ticks. Pure."""

    def __init__(self, ticks: int) -> None:
        self._most = ticks
        self._last: Progress | None = None
        self._ticks = 0

    def is_stalled(self, now: Progress) -> bool:
        """Take note of the progress at a tick; returns whether it has stalled."""
        self._ticks = self._ticks + 1 if now.is_busy and now == self._last else 0
        self._last = now
        return self._ticks >= self._most


class Watchdog:
    """Watches the event loop and the device of this process from a thread of its own.

    Args:
        limit_s: seconds without progress after which one has stalled; 0 = it does not watch.
        event_loop: progress of the event loop.
        device: progress of the device.
        on_device_stall: fails all requests; called on the watchdog's thread, with what to call once they are answered.
        leave: ends the process, given why.
        service_manager: gets a sign of life for as long as neither has stalled; None = nobody expects one.

    """

    def __init__(
        self,
        limit_s: float,
        *,
        event_loop: Callable[[], Progress],
        device: Callable[[], Progress],
        on_device_stall: Callable[[str, Callable[[], None]], object],
        leave: Callable[[str], None],
        service_manager: ServiceManager | None = None,
    ) -> None:
        self._limit_s = limit_s
        self._event_loop = event_loop
        self._device = device
        self._on_device_stall = on_device_stall
        self._leave = leave
        self._service_manager = service_manager or ServiceManager()
        beat_s = self._service_manager.beat_s
        self._tick_s = min(_MOST_TICK_S, limit_s / _TICKS or _MOST_TICK_S, beat_s or _MOST_TICK_S)
        self._stopping = threading.Event()
        self._thread = NamedThread(target=self._run, name="samplerd-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        if self._limit_s or self._service_manager.beat_s:
            self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        ticks = round(self._limit_s / self._tick_s) or sys.maxsize
        event_loop, device = StallDetector(ticks), StallDetector(ticks)
        while not self._stopping.wait(self._tick_s):
            if device.is_stalled(self._device()):
                why = f"the device has not finished a batch for {self._limit_s:g} s (--stall-limit)"
                event(_LOG, logging.ERROR, "stalled", why=why)
                answered = threading.Event()
                self._on_device_stall(why, answered.set)
                answered.wait(_ANSWER_S)
                self._leave(why)
                return
            if event_loop.is_stalled(self._event_loop()):
                why = f"the event loop has not turned for {self._limit_s:g} s (--stall-limit)"
                event(_LOG, logging.ERROR, "stalled", why=why)
                self._leave(why)
                return
            self._service_manager.alive()
