"""The reply to a ticket of a door: what a future is to a ticket, without a turn of the event loop for each callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Reply"]


class Reply:
    """The part of `asyncio.Future` that the queue, the batcher and the slicer use."""

    __slots__ = ("_callbacks", "_deliver", "_is_cancelled", "_is_done", "number")

    def __init__(self, number: int, deliver: Callable[[int, Any, Exception | None], None]) -> None:
        """Take the number of the request, and what is given its result or its error, once."""
        self.number = number
        self._deliver = deliver
        self._callbacks: tuple[Callable[[Any], object], ...] = ()
        self._is_done = False
        self._is_cancelled = False

    def done(self) -> bool:
        """Whether there is an outcome, or nobody waits for it any more."""
        return self._is_done

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._is_cancelled

    def result(self) -> Any:
        """Raise: an outcome is sent on and not kept."""
        raise AssertionError("the reply of a door was asked for its result. This is a bug.")

    def exception(self) -> BaseException | None:
        """Raise, as above."""
        raise AssertionError("the reply of a door was asked for its error. This is a bug.")

    def set_result(self, result: object) -> None:
        """Send the result to the door."""
        self._is_done = True
        self._deliver(self.number, result, None)

    def set_exception(self, error: Exception) -> None:
        """Send the error to the door."""
        self._is_done = True
        self._deliver(self.number, None, error)

    def cancel(self) -> None:
        """Take note that nobody waits for it any more."""
        if not self._is_done:
            self._is_done = self._is_cancelled = True
            for callback in self._callbacks:
                callback(self)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call this once it is cancelled; an outcome is not told, since the door's own future tells it."""
        self._callbacks += (callback,)
