"""What all workers have counted: asked of each when somebody scrapes, remembered for those that have ended.

On the supervisor's event loop. A worker that does not answer within a second is shown as not up, and counted with what
it said last; one that was killed takes with it what it has counted since.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from samplerd_server.metrics.metrics import Process
from samplerd_server.metrics.snapshot import Family, Key, Snapshot, decode, encode
from samplerd_server.process.workers.merge import keep_counts, merge

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MetricsAggregator"]

_ANSWER_S = 1.0
"""Far below any scraper's timeout; a worker takes some milliseconds."""


@dataclass(slots=True)
class _Seat:
    """The place of one worker and its successors."""

    path: Path | None = None
    """Where its present holder answers; None: nobody holds it."""
    last: Snapshot = field(default_factory=dict)
    """What its present holder said last."""
    asked: int = 0
    """The question that it answered last, of all that were asked."""
    starts: int = 0


class MetricsAggregator:
    """The counts of all workers, past and present."""

    def __init__(self, workers: int) -> None:
        self._seats = [_Seat() for _ in range(workers)]
        self._past: Snapshot = {}
        self._own = Process()
        self._questions = count(1)

    def started(self, index: int, path: Path) -> None:
        """Take note of a worker that was started, and will answer at this socket."""
        seat = self._seats[index]
        seat.path = path
        seat.starts += 1

    def ended(self, index: int) -> None:
        """Take note of a worker that has ended; what it said last stays counted."""
        seat = self._seats[index]
        self._past = merge([self._past, keep_counts(seat.last)])
        if seat.path is not None:
            seat.path.unlink(missing_ok=True)  # one that was killed leaves it behind
        seat.path, seat.last = None, {}

    async def ask(self, index: int) -> bool:
        """Ask one worker; returns whether it answered in time."""
        seat, question = self._seats[index], next(self._questions)
        path = seat.path
        if path is None:
            return False
        try:
            async with asyncio.timeout(_ANSWER_S):
                said = decode(await _read(path))
        except (OSError, TimeoutError, ValueError):
            return False
        # It may have ended meanwhile, or answered a later question already.
        if seat.path == path and seat.asked < question:
            seat.last, seat.asked = said, question
        return True

    async def take(self) -> list[Family]:
        """Ask all, and give the sums."""
        answered = await asyncio.gather(*map(self.ask, range(len(self._seats))))
        own = decode(encode([self._own]))
        families = merge([own, self._past, *(seat.last for seat in self._seats)])
        up = _by_worker("samplerd_worker_up", "Whether this worker answered the scrape.", "gauge", "", answered)
        starts = [max(0, seat.starts - 1) for seat in self._seats]
        restarts = _by_worker("samplerd_worker_restarts", "Times it was started anew.", "counter", "_total", starts)
        return [*families.values(), up, restarts]


def _by_worker(name: str, text: str, kind: str, suffix: str, values: list[bool] | list[int]) -> Family:
    samples: dict[Key, float] = {
        (name + suffix, (("worker", str(index)),)): float(value) for index, value in enumerate(values)
    }
    return Family(name=name, help=text, kind=kind, samples=samples)


async def _read(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        return await reader.read()
    finally:
        writer.close()
