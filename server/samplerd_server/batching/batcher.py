"""The batcher: queue, policy and device put together.

Rule 1: everything here runs on the event loop, between two awaits; the device thread only ever calls back through the
loop. Rule 2: requests that arrive in one turn of the loop are looked at together at its end, so a burst is one batch.
Rule 3: a ticket that was cancelled or has expired is dropped when its batch is formed, and never computed.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from samplerd_server.batching.jobs import Job, failures, split
from samplerd_server.batching.policy import REASONS, Close, DeviceState, decide
from samplerd_server.core.errors import DeadlineError, InternalError
from samplerd_server.core.result import Timing
from samplerd_server.sampling.cdf_index.batch import IndexedBatch

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from samplerd_server.batching.costs import CostModel
    from samplerd_server.batching.pending import Pending
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import BatchingConfig
    from samplerd_server.engine.device_thread import Outcome
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.sampling.rows import DraftBatch, RowBatch

__all__ = ["Batcher"]

_LOG = logging.getLogger("samplerd.batching")


class Runs(Protocol):
    """The part of the engine that the batcher uses."""

    def submit(self, batch: RowBatch | DraftBatch | IndexedBatch, deliver: Callable[[Outcome], None]) -> None:
        """Run a batch after those before it, then call `deliver` on the event loop."""
        ...

    def run(self, batch: RowBatch | DraftBatch | IndexedBatch) -> Outcome:
        """Run a batch on the calling thread. Only while nothing is submitted."""
        ...

    @property
    def event_loop_draw_limit_s(self) -> float:
        """A batch predicted to take less than so many seconds is better run than submitted; 0 = never."""
        ...


class Batcher:
    """Forms batches and delivers their results."""

    def __init__(
        self,
        config: BatchingConfig,
        *,
        pending: Pending,
        costs: CostModel,
        engine: Runs,
        metrics: Metrics,
        loop: AbstractEventLoop,
    ) -> None:
        self._config = config
        self._pending = pending
        self._costs = costs
        self._engine = engine
        self._metrics = metrics
        self._loop = loop
        self._device = DeviceState()
        self._tickets = 0
        self._is_look_due = False
        self._timer: TimerHandle | None = None
        self._batches = {reason: metrics.batches.cell(reason) for reason in REASONS}
        self._greedy, self._random = metrics.rows.cell("greedy"), metrics.rows.cell("random")
        self._samples, self._input_bytes = metrics.samples.cell(), metrics.input_bytes.cell()

    @property
    def in_flight(self) -> int:
        """Requests that wait or are at the device."""
        return len(self._pending) + self._tickets

    def enqueue(self, ticket: Ticket) -> None:
        """Put an admitted ticket in the queue; its reply is resolved later."""
        self._pending.add(ticket)
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._is_look_due:
            self._is_look_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Close as many batches as the policy says."""
        self._is_look_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pending.rows:
            now = time.monotonic()
            decision = decide(now, self._pending, self._device, self._config)
            if isinstance(decision, Close):
                self._form(decision.reason, now)
                continue
            if decision.until is not None:
                # uvloop's timers count whole milliseconds; one that fires early only looks again.
                self._timer = self._loop.call_later(max(0.0, decision.until - now), self._look_soon)
            return

    def _form(self, reason: str, now: float) -> None:
        """Take a batch from the queue, drop what is of no more use, and hand the rest to the device."""
        tickets = []
        for ticket in self._pending.take(self._config.max_rows, self._config.max_bytes):
            if now < ticket.deadline and not ticket.reply.done():
                tickets.append(ticket)
            else:
                self._drop(ticket, now)
        for job in split(tickets):
            self._run(job, reason, now)

    def _drop(self, ticket: Ticket, now: float) -> None:
        # Expiry is looked at first, since grpcio cancels a call whose deadline passes.
        if ticket.is_expired(now):
            self._metrics.expired.add(1)
            ticket.fail(DeadlineError("the deadline passed while the request was queued; nothing was computed"))
        else:
            self._metrics.cancelled.add(1, "queued")

    def _run(self, job: Job, reason: str, now: float) -> None:
        """Hand a job to the device, or run it here if that is sooner done."""
        tickets, device = job.tickets, self._device
        try:
            batch = job.pack()
        except Exception:  # noqa: BLE001  # a bug of ours fails this batch and nothing else
            _LOG.exception("a batch could not be packed")
            _fail(tickets)
            return
        if isinstance(batch, IndexedBatch):
            self._metrics.indexed_samples.add(batch.samples)
        rows = len(batch)
        device.batches += 1
        device.rows += rows
        self._tickets += len(tickets)
        work = self._count(tickets, reason, now, rows, batch.samples)

        def deliver(outcome: Outcome) -> None:
            device.batches -= 1
            device.rows -= rows
            self._tickets -= len(tickets)
            if self._pending.rows:
                self._look_soon()
            self._costs.learn(work, outcome.compute_s)
            self._deliver(job, outcome, formed=now, rows=rows)

        limit_s = self._engine.event_loop_draw_limit_s
        if device.batches == 1 and self._costs.knows and self._costs.predict(work) < limit_s:
            deliver(self._engine.run(batch))
        else:
            self._engine.submit(batch, deliver)

    def _count(self, tickets: list[Ticket], reason: str, now: float, rows: int, samples: int) -> int:
        """Count a batch that is formed; returns its work."""
        work = size = greedy = 0
        wait = self._metrics.queue_wait_seconds
        for ticket in tickets:
            work += ticket.work
            size += ticket.size_bytes
            greedy += ticket.request.greedy_rows
            wait.observe(now - ticket.arrival)
        self._batches[reason].value += 1
        self._metrics.batch_rows.observe(rows)
        self._greedy.value += greedy
        self._random.value += rows - greedy
        self._samples.value += samples
        self._input_bytes.value += size
        return work

    def _deliver(self, job: Job, outcome: Outcome, *, formed: float, rows: int) -> None:
        """Give every ticket its part of the results."""
        tickets, compute_s = job.tickets, outcome.compute_s
        self._metrics.compute_seconds.observe(compute_s)
        if outcome.results is None:
            self._count_gone(sum(ticket.is_cancelled for ticket in tickets))
            _fail(tickets)
            return
        try:
            for reason, count in failures(outcome.results):
                self._metrics.row_errors.add(count, reason.name.lower())
            timings = [Timing(formed - ticket.arrival, compute_s, rows) for ticket in tickets]
            answers = job.unpack(outcome.results, timings)
        except Exception:  # noqa: BLE001  # a bug of ours fails this batch and nothing else
            _LOG.exception("the results of a batch could not be unpacked")
            self._count_gone(sum(ticket.is_cancelled for ticket in tickets))
            _fail(tickets)
            return
        gone = 0
        for ticket, answer in zip(tickets, answers, strict=True):
            if ticket.reply.done():
                gone += 1
            else:
                ticket.reply.set_result(answer)  # type: ignore[arg-type]  # a kind of request takes its kind of result
        self._count_gone(gone)

    def _count_gone(self, tickets: int) -> None:
        if tickets:
            self._metrics.cancelled.add(tickets, "computed")


def _fail(tickets: list[Ticket]) -> None:
    """Tell every caller of a batch that it failed through a bug of ours."""
    for ticket in tickets:
        ticket.fail(InternalError())
