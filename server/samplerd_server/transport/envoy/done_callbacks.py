"""What waits for the end of a call: functions that are called once its reply is sent, or nobody will read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DoneCallbacks"]


class DoneCallbacks:
    """The part of a context that tells of the end of its call."""

    __slots__ = ("_on_done",)

    def __init__(self) -> None:
        self._on_done: list[Callable[[Any], None]] | None = None
        """None = nothing waits, as in most calls."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a function called with this context at the end of the call."""
        if self._on_done is None:
            self._on_done = []
        self._on_done.append(callback)

    def finish(self) -> None:
        """Call what waits for the end of the call."""
        for callback in self._on_done or ():
            callback(self)
