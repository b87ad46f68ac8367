"""The device thread: runs batches in order and passes the results to the event loop.

Rule 1: one thread at a time calls the sampler: this one, or the event loop for a small batch while this one is idle
(docs/design/0002-small-batches-on-the-event-loop.md). Rule 2: an exception of the sampler fails its batch, not the
thread, which ends only when it is stopped. Rule 3: one wake-up of the event loop per batch, however many rows it has.
Rule 4: a sampler that can begin a batch before the one before has ended is given both; a second thread waits for them
(`batch_ends.py`).
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from samplerd_server.core.named_thread import NamedThread
from samplerd_server.core.thread_clock import ThreadClock
from samplerd_server.engine.batch_ends import BatchEnds, BegunBatch, Finish
from samplerd_server.engine.outcome import Outcome
from samplerd_server.sampling.cdf_index.batch import IndexedBatch
from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
from samplerd_server.sampling.rows import DraftBatch, RowBatch
from samplerd_server.sampling.sampler import EarlySampler

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from samplerd_server.sampling.rows import DraftVerdict, RowResults
    from samplerd_server.sampling.sampler import Sampler

__all__ = ["DeviceBatch", "DeviceThread", "Outcome"]

DeviceBatch: TypeAlias = "RowBatch | DraftBatch | IndexedBatch | ResumedDraw | ResumedDraft"
"""What the device computes at a time."""
_LOG = logging.getLogger("samplerd.engine")


class DeviceThread:
    """Runs batches, one after the other."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._inbox: SimpleQueue[tuple[DeviceBatch, Callable[[Outcome], None]] | None] = SimpleQueue()
        self._thread = NamedThread(target=self._run, name="samplerd-device", daemon=True)
        self._loop: AbstractEventLoop | None = None
        self._began = 0.0
        """When the running batch began, by the monotonic clock; 0 = none runs."""
        self._clock: ThreadClock | None = None
        self._ends = BatchEnds(self._deliver) if isinstance(sampler, EarlySampler) else None

    @property
    def cpu_s(self) -> float:
        """Processor time of the thread, in seconds. May be read from any thread."""
        return 0.0 if self._clock is None else self._clock.seconds

    @property
    def batch_age_s(self) -> float:
        """Seconds since the running batch began, 0 = none runs. May be called from any thread."""
        began = self._began if self._ends is None else self._ends.began
        return time.monotonic() - began if began else 0.0

    def start(self, loop: AbstractEventLoop) -> None:
        """Start the thread; outcomes are delivered on `loop`."""
        self._loop = loop
        self._thread.start()
        if self._ends is not None:
            self._ends.start()

    def submit(self, batch: DeviceBatch, deliver: Callable[[Outcome], None]) -> None:
        """Run a batch on this thread, after those submitted before, then call `deliver` on the event loop."""
        self._inbox.put((batch, deliver))

    def stop(self, wait_s: float) -> bool:
        """Finish the submitted batches, end the thread and close the sampler.

        Args:
            wait_s: most seconds to wait.

        Returns:
            Whether the thread has ended. If not, it is still computing, and the process must exit without it.

        """
        self._inbox.put(None)
        until = time.monotonic() + wait_s
        self._thread.join(wait_s)
        if self._thread.is_alive():
            return False
        if self._ends is not None and not self._ends.stop(max(0.0, until - time.monotonic())):
            return False
        self._sampler.close()
        return True

    def run(self, batch: DeviceBatch) -> Outcome:
        """Run a batch on the calling thread. Only while no submitted batch is unfinished."""
        # Outside of what is timed: a busy machine's scheduler takes over when a system call returns, and this is one.
        thread_began = time.thread_time()
        began = self._began = time.monotonic()
        try:
            results = _draw(self._sampler, batch)
        except Exception:  # noqa: BLE001  # any exception of the sampler fails this batch and no other
            _LOG.exception("the sampler raised", extra={"values": {"rows": len(batch)}})
            return Outcome(results=None, compute_s=time.monotonic() - began, has_failed=True, began_s=began)
        finally:
            self._began = 0.0
        compute_s = time.monotonic() - began
        return Outcome(results=results, compute_s=compute_s, began_s=began, thread_s=time.thread_time() - thread_began)

    def _run(self) -> None:
        self._clock = ThreadClock()
        while (submitted := self._inbox.get()) is not None:
            batch, deliver = submitted
            if self._ends is None:
                self._deliver(deliver, self.run(batch))
            else:
                began = self._ends.begin()
                self._ends.add(BegunBatch(self._begin(batch, began), deliver, len(batch), began))
            # These names would keep the batch's memory alive while the thread waits for the next one.
            del submitted, batch, deliver

    def _begin(self, batch: DeviceBatch, began: float) -> Finish | Outcome:
        """Begin a batch, or run it where it cannot be begun."""
        try:
            return self._begin_early(batch) or self.run(batch)
        except Exception:  # noqa: BLE001  # as in `run`
            _LOG.exception("the sampler raised", extra={"values": {"rows": len(batch)}})
            return Outcome(results=None, compute_s=time.monotonic() - began, has_failed=True, began_s=began)

    def _begin_early(self, batch: DeviceBatch) -> Finish | None:
        """Begin a batch; None = it is to be run."""
        if isinstance(self._sampler, EarlySampler):
            if isinstance(batch, RowBatch):
                return self._sampler.begin(batch)
            if isinstance(batch, DraftBatch | ResumedDraft):
                return self._sampler.begin_drafts(batch)
        return None

    def _deliver(self, deliver: Callable[[Outcome], None], outcome: Outcome) -> None:
        assert self._loop is not None, "the device thread runs before it was started. This is a bug."
        with suppress(RuntimeError):  # the loop is closed because the stop did not wait for this batch
            self._loop.call_soon_threadsafe(deliver, outcome)


def _draw(sampler: Sampler, batch: DeviceBatch) -> RowResults | tuple[DraftVerdict, ...] | None:
    if isinstance(batch, DraftBatch):
        return tuple(sampler.verify(own.target, own.draft_ids, own.parents, own.draft) for own in batch.sequences)
    if isinstance(batch, IndexedBatch):
        return batch.run()
    if isinstance(batch, ResumedDraw):
        return sampler.resume(batch)
    if isinstance(batch, ResumedDraft):
        verdict = sampler.resume_draft(batch)
        return None if verdict is None else (verdict,)
    return sampler.sample(batch)
