"""The metrics of all workers: asked of each when somebody scrapes, remembered for those that have ended.

On the supervisor's event loop. A worker that does not answer within a second is shown as not up, and counted with its
last answer. One that ends by itself leaves its last counts in a file; one that was killed takes with it what it has
counted since its last answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from samplerd_server.metrics.metrics import SupervisorMetrics
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.series import Layout, Snapshot
from samplerd_server.metrics.snapshot import decode, last_counts
from samplerd_server.process.workers.merge import keep_counts, merge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["MetricsAggregator"]

_ANSWER_S = 1.0
"""Far below any scraper's timeout; a worker takes some milliseconds."""
_TURN_S = 0.02
"""Seconds after which the next worker is asked though this one has not answered: a scrape of sixteen workers that hang
takes a third of a second longer than one of a single worker that hangs."""
_NOTHING = Snapshot(Layout(()), ())


@dataclass(slots=True)
class _Slot:
    """One worker: the process that runs now, or that will replace it."""

    path: Path | None = None
    """Socket on which the process answers; None: no process runs."""
    last: Snapshot = _NOTHING
    """The last answer of the process."""
    question: int = 0
    """Number of the question that was answered last."""
    has_run: bool = False
    """Whether a process was started before."""
    is_up: bool = False
    """Whether the process answered the last scrape."""


class MetricsAggregator:
    """The metrics of all workers, past and present, and those of the supervisor."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take the names of the workers, by which their series are told apart."""
        self._names = tuple(names)
        self._slots = [_Slot() for _ in names]
        self._past = _NOTHING
        self._process = ProcessMetrics()
        self._own = SupervisorMetrics(names)
        for name, slot in zip(self._names, self._slots, strict=True):
            self._own.worker_up.watch(lambda slot=slot: float(slot.is_up), name)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        self._questions = count(1)

    def started(self, index: int, path: Path) -> None:
        """Take note that a worker was started, and answers on this socket."""
        slot = self._slots[index]
        if slot.has_run:
            self._own.worker_restarts.add(1, self._names[index])
        slot.path, slot.has_run = path, True

    def ended(self, index: int) -> None:
        """Take note that a worker has ended; what it left, or else its last answer, stays counted."""
        slot = self._slots[index]
        last = slot.last
        if slot.path is not None:
            left = last_counts(slot.path)
            with suppress(OSError, ValueError):  # one that was killed leaves nothing, or not all of it
                last = decode(left.read_bytes())
            left.unlink(missing_ok=True)
            slot.path.unlink(missing_ok=True)  # one that was killed leaves it behind
        self._past = merge([self._past, keep_counts(last)])
        slot.path, slot.last = None, _NOTHING

    async def ask(self, index: int) -> bool:
        """Ask one worker; returns whether it answered in time."""
        slot, question = self._slots[index], next(self._questions)
        path = slot.path
        if path is None:
            return False
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = decode(await _read(path))
        except (OSError, TimeoutError, ValueError):
            return False
        # It may have ended meanwhile, or answered a later question already.
        if slot.path == path and slot.question < question:
            slot.last, slot.question = answer, question
        return True

    async def take(self) -> Snapshot:
        """Ask all workers, and merge their answers with what the supervisor itself counts.

        One is asked after the other has answered, or after `_TURN_S`: all at once they would take every processor from
        the calls.
        """
        asking = []
        for index in range(len(self._slots)):
            asking.append(asyncio.create_task(self.ask(index), name="samplerd-ask-worker"))
            await asyncio.wait(asking[-1:], timeout=_TURN_S)
        for slot, is_up in zip(self._slots, await asyncio.gather(*asking), strict=True):
            slot.is_up = is_up
        return merge([self._process.read(), self._past, *(slot.last for slot in self._slots), self._own.read()])


async def _read(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        return await reader.read()
    finally:
        writer.close()
