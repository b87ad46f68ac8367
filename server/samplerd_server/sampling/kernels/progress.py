"""How far compiling is, for whoever waits for it."""

from __future__ import annotations

import logging
import time

from numba.core import event

__all__ = ["Progress", "tell_progress"]

_LOG = logging.getLogger("samplerd.kernels")
_QUIET_S = 5.0
"""Seconds without a line after which one says how far it is."""


class Progress(event.Listener):
    """Says now and then how many parts of kernels are lowered: a kernel may take a hundred of them before it is done.

    What cannot be told from outside is shorter: one part, or the machine code of one kernel.
    """

    def __init__(self) -> None:
        self._lowered = 0
        self._told_at = time.monotonic()

    def on_start(self, event: event.Event) -> None:
        """Do nothing: what begins is told when it ends."""

    def on_end(self, _event: event.Event) -> None:
        """Count a function that numba has compiled."""
        self._lowered += 1
        now = time.monotonic()
        if now - self._told_at > _QUIET_S:
            self._told_at = now
            _LOG.info("compiling: %d parts of kernels so far", self._lowered)


def tell_progress() -> None:
    """Log now and then how far this process is, for as long as it compiles."""
    event.register("numba:compile", Progress())  # type: ignore[no-untyped-call]
