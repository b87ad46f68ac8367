"""An assignment that a card was given: where its answers will be, and what is given back once they are there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from samplerd_server.sampling.cuda.card import CardError

if TYPE_CHECKING:
    from samplerd_server.sampling.cuda.assignments import Assignment
    from samplerd_server.sampling.cuda.batch_memory import BatchMemory
    from samplerd_server.sampling.cuda.card import Card

__all__ = ["Flight"]


class Flight:
    """An assignment on the card. Begun by one thread, ended by any, or by several at once."""

    def __init__(self, card: Card, memory: BatchMemory, assignment: Assignment) -> None:
        self.assignment = assignment
        self._card = card
        self._memory = memory
        self._lock = threading.Lock()
        self._mark: Any = None
        self._is_under_way = False
        self._error: CardError | None = None

    def begin(self) -> None:
        """Enqueue everything.

        Raises:
            CardError: it could not be enqueued, and nothing is left of it on the card.

        """
        try:
            self.assignment.enqueue(self._card, self._memory)
            self._mark = self._card.mark()
        except CardError:
            self._abandon()
            raise
        self._is_under_way = True

    def _abandon(self) -> None:
        """Wait for what was enqueued already, and give all memory back."""
        try:
            self._card.fence()
            self._card.wait(self._card.mark())
        finally:
            self._memory.give_back(is_whole=False)

    def land(self) -> None:
        """Wait for the card, put the answers where they belong, and give all memory back. Again: do nothing.

        Raises:
            CardError: the card is lost; the answers are those of an assignment that was not done.

        """
        with self._lock:
            if self._is_under_way:
                self._is_under_way = False
                try:
                    self._card.wait(self._mark)
                    self.assignment.put()
                except CardError as error:
                    self._error = error
                self._memory.give_back(is_whole=self._error is None)
            if self._error is not None:
                raise self._error
