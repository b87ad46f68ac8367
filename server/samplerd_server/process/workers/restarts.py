"""How long to wait before a worker that died is started again. Pure: no clock, no process."""

from __future__ import annotations

__all__ = ["Backoff"]

_FIRST_S = 0.1
"""Short, because the first death may be chance, and the other workers carry the load until the worker is back."""
_MOST_S = 30.0
_HEALTHY_S = 60.0
"""A worker that served this long was healthy; its next death counts as the first one."""


class Backoff:
    """The waits before the starts of one worker: doubling from 0.1 s to 30 s, and reset by a minute of serving."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def died(self, served_s: float) -> float:
        """Give the seconds to wait.

        Args:
            served_s: how long the worker served before it died; 0 if it never did.

        """
        wait_s = _FIRST_S if served_s >= _HEALTHY_S else self._next_s
        self._next_s = min(2 * wait_s, _MOST_S)
        return wait_s
