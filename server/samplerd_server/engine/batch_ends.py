"""The thread that waits for the ends of batches that were begun early, in order, while the device thread begins others.

Rule 1: batches are delivered in the order in which they were begun, those too that were run at once. Rule 2: an
exception fails its batch, and the thread goes on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from samplerd_server.core.named_thread import NamedThread
from samplerd_server.engine.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.sampling.rows import DraftVerdict, RowResults

__all__ = ["BatchEnds", "BegunBatch", "Finish"]

_LOG = logging.getLogger("samplerd.engine")


Finish: TypeAlias = "Callable[[], RowResults | tuple[DraftVerdict, ...]]"
"""What waits for the end of a batch, and gives its results."""


class BegunBatch(NamedTuple):
    """A batch whose end is waited for."""

    finish: Finish | Outcome
    """What waits for the end and gives the results; or the outcome, of one that has ended already."""
    deliver: Callable[[Outcome], None]
    rows: int
    began: float
    """As `begin` returned it."""


class BatchEnds:
    """Waits for the ends of batches."""

    def __init__(self, deliver: Callable[[Callable[[Outcome], None], Outcome], None]) -> None:
        """Prepare it; deliver: passes an outcome to who waits for it."""
        self._deliver = deliver
        self._inbox: SimpleQueue[BegunBatch | None] = SimpleQueue()
        self._thread = NamedThread(target=self._run, name="samplerd-device-ends", daemon=True)
        self._begun: deque[float] = deque()
        """When each of the batches began that have not ended."""
        self._ended = 0.0
        """When the last one ended."""

    @property
    def began(self) -> float:
        """When the device began what it draws now, on the monotonic clock; 0 = nothing. For any thread."""
        try:
            return max(self._begun[0], self._ended)
        except IndexError:
            return 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self) -> float:
        """Note that a batch begins, whose end will be added; returns when, on the monotonic clock."""
        began = time.monotonic()
        self._begun.append(began)
        return began

    def add(self, begun: BegunBatch) -> None:
        """Add a batch that was begun, in the same order."""
        self._inbox.put(begun)

    def stop(self, wait_s: float) -> bool:
        """Wait for the ends of all, and end the thread; returns whether it has ended within the time."""
        self._inbox.put(None)
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (begun := self._inbox.get()) is not None:
            outcome = self._end(begun)
            self._ended = time.monotonic()
            self._begun.popleft()
            self._deliver(begun.deliver, outcome)
            # These names would keep the batch's memory alive while the thread waits for the next one.
            del begun, outcome

    def _end(self, begun: BegunBatch) -> Outcome:
        if isinstance(begun.finish, Outcome):
            return begun.finish
        began = max(begun.began, self._ended)
        results: RowResults | tuple[DraftVerdict, ...] | None = None
        try:
            results = begun.finish()
        except Exception:  # noqa: BLE001  # any exception of the sampler fails this batch and no other
            _LOG.exception("the sampler raised", extra={"values": {"rows": begun.rows}})
        compute_s = time.monotonic() - began
        return Outcome(results=results, compute_s=compute_s, has_failed=results is None, began_s=began)
