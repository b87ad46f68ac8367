"""Rows that a card was given to draw from: where their results will be, and what is given back once they are there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from samplerd_server.sampling.cuda.card import CardError
from samplerd_server.sampling.cuda.draw import enqueue
from samplerd_server.sampling.cuda.parts import part_of, put_results
from samplerd_server.sampling.cuda.staging import stage
from samplerd_server.sampling.rows import new_results

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.batch_memory import BatchMemory
    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.rows import RowBatch, RowResults

__all__ = ["Flight"]


class Flight:
    """Some rows of a batch on the card. Begun by one thread, ended by any, or by several at once."""

    def __init__(self, card: Card, memory: BatchMemory, batch: RowBatch, places: NDArray[np.int64]) -> None:
        """Prepare it for the rows of a batch that are at int64[N] places."""
        self.places = places
        self._batch = batch
        self._card = card
        self._memory = memory
        self._lock = threading.Lock()
        self._mark: Any = None
        self._locked: RowResults | None = None
        self._results: RowResults | None = None
        self._error: CardError | None = None

    def begin(self, results: RowResults) -> None:
        """Enqueue everything; the results will be put among those of the batch, which are not read.

        Raises:
            CardError: it could not be enqueued, and nothing is left of it on the card.

        """
        part = part_of(self._batch, self.places)
        try:
            rows = stage(part.rows, self._memory, self._card)
            locked = self._memory.lock_results(new_results(part))
            enqueue(rows, locked, self._card.launch, self._memory)
            self._mark = self._card.mark()
        except CardError:
            self._abandon()
            raise
        self._locked, self._results = locked, results

    def _abandon(self) -> None:
        """Wait for what was enqueued already, and give all memory back."""
        try:
            self._card.fence()
            self._card.wait(self._card.mark())
        finally:
            self._memory.give_back(is_whole=False)

    def land(self) -> None:
        """Wait for the card, put the results among those of the batch, and give all memory back. Again: do nothing.

        Raises:
            CardError: the card is lost; the results are those of failed rows.

        """
        with self._lock:
            locked, results = self._locked, self._results
            self._locked = self._results = None
            if locked is not None and results is not None:
                try:
                    self._card.wait(self._mark)
                    put_results(results, self._batch, locked, self.places)
                except CardError as error:
                    self._error = error
                self._memory.give_back(is_whole=self._error is None)
            if self._error is not None:
                raise self._error
