"""What a door has asked of the engine beside draws, and has no answer to yet. On the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable

    from samplerd_server.core.errors import SamplerdError

__all__ = ["Questions"]


class Questions:
    """The questions, by number."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: dict[int, Future[Any]] = {}

    def __len__(self) -> int:
        """Count them."""
        return len(self._asked)

    async def wait(self, number: int, cancel: Callable[[int], None]) -> Any:
        """Wait for the answer to a question; `cancel` is called if nobody waits for it any more.

        Raises:
            SamplerdError: the engine refuses, or has ended.

        """
        self._asked[number] = answer = self._loop.create_future()
        try:
            return await answer
        finally:
            if self._asked.pop(number, None) is not None:
                cancel(number)

    def answer(self, number: int, value: object) -> None:
        """Take an answer."""
        question = self._asked.pop(number, None)
        if question is not None and not question.done():
            question.set_result(value)

    def fail(self, number: int, error: SamplerdError) -> None:
        """Take an error."""
        question = self._asked.pop(number, None)
        if question is not None and not question.done():
            question.set_exception(error)

    def fail_all(self, error: SamplerdError) -> None:
        """Answer all of them with an error."""
        for number in tuple(self._asked):
            self.fail(number, error)
