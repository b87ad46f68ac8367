"""The processor time of one thread, read from any other."""

from __future__ import annotations

import time
from threading import get_ident

__all__ = ["ThreadClock"]


class ThreadClock:
    """The processor time that the thread which makes it has used; it stays at its last value once that has ended."""

    __slots__ = ("_clock", "_last")

    def __init__(self) -> None:
        # Not on every system: macOS has no clock of another thread.
        clock_of = getattr(time, "pthread_getcpuclockid", None)
        self._clock: int | None = None if clock_of is None else clock_of(get_ident())
        self._last = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of user and system time; 0 where the system does not tell."""
        if self._clock is not None:
            try:
                self._last = time.clock_gettime(self._clock)
            except OSError:  # the thread has ended
                self._clock = None
        return self._last
