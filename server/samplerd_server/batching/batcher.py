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
from samplerd_server.batching.policy import Close, DeviceState, QueueState, Wait, decide
from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.errors import DeadlineError, InternalError
from samplerd_server.request import Timing

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from samplerd_server.batching.costs import CostModel
    from samplerd_server.batching.pending import Pending
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import BatchingConfig
    from samplerd_server.engine.worker import Outcome
    from samplerd_server.metrics import Metrics
    from samplerd_server.sampling.rows import DraftBatch, RowBatch

__all__ = ["Batcher"]

_LOG = logging.getLogger("samplerd.batching")


class Runs(Protocol):
    """The part of the engine that the batcher uses."""

    def submit(self, batch: RowBatch | DraftBatch, deliver: Callable[[Outcome], None]) -> None:
        """Run a batch after those before it, then call `deliver` on the event loop."""
        ...

    def run(self, batch: RowBatch | DraftBatch) -> Outcome:
        """Run a batch on the calling thread. Only while nothing is submitted."""
        ...

    @property
    def inline_budget_s(self) -> float:
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
        self._batches = 0
        self._rows = 0
        self._tickets = 0
        self._is_look_due = False
        self._timer: TimerHandle | None = None

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
            decision = self._decide(now)
            if isinstance(decision, Close):
                self._form(decision, now)
                continue
            if decision.until is not None:
                # uvloop's timers count whole milliseconds; one that fires early only looks again.
                self._timer = self._loop.call_later(max(0.0, decision.until - now), self._look_soon)
            return

    def _decide(self, now: float) -> Close | Wait:
        pending, delay = self._pending, self._config.max_queue_delay_s
        is_timed = delay > 0.0 and pending.rows > 0
        queue = QueueState(
            rows=pending.rows,
            bytes=pending.bytes,
            oldest_arrival=pending.oldest_arrival() if is_timed else now,
            nearest_deadline=pending.nearest_deadline() if is_timed else NO_DEADLINE,
        )
        return decide(
            now,
            queue,
            DeviceState(batches=self._batches, rows=self._rows),
            max_rows=self._config.max_rows,
            max_bytes=self._config.max_bytes,
            max_queue_delay_s=delay,
        )

    def _form(self, close: Close, now: float) -> None:
        """Take a batch from the queue, drop what is of no more use, and hand the rest to the device."""
        tickets = [
            ticket
            for ticket in self._pending.take(self._config.max_rows, self._config.max_bytes)
            if self._is_wanted(ticket, now)
        ]
        for job in split(tickets):
            self._run(job, close, now)

    def _run(self, job: Job, close: Close, now: float) -> None:
        """Hand a job to the device, or run it here if that is sooner done."""
        tickets = job.tickets
        if not tickets:
            return
        try:
            batch = job.pack()
        except Exception:  # noqa: BLE001  # a bug of ours fails this batch and nothing else
            _LOG.exception("a batch could not be packed")
            _fail(tickets)
            return
        work = sum(ticket.request.work for ticket in tickets)
        self._batches += 1
        self._rows += len(batch)
        self._tickets += len(tickets)
        self._count(batch, close, tickets, now)

        def deliver(outcome: Outcome) -> None:
            self._batches -= 1
            self._rows -= len(batch)
            self._tickets -= len(tickets)
            if self._pending.rows:
                self._look_soon()
            self._costs.learn(work, outcome.compute_s)
            self._deliver(job, outcome, formed=now, rows=len(batch))

        if self._batches == 1 and self._costs.knows and self._costs.predict(work) < self._engine.inline_budget_s:
            deliver(self._engine.run(batch))
        else:
            self._engine.submit(batch, deliver)

    def _is_wanted(self, ticket: Ticket, now: float) -> bool:
        # Looked at first, since grpcio cancels a call whose deadline passes.
        if ticket.is_expired(now):
            self._metrics.cancelled.add(1, "expired")
            ticket.fail(DeadlineError("the deadline passed while the request was queued; nothing was computed"))
            return False
        if ticket.is_cancelled:
            self._metrics.cancelled.add(1, "queued")
            return False
        return True

    def _count(self, batch: RowBatch | DraftBatch, close: Close, tickets: list[Ticket], now: float) -> None:
        metrics = self._metrics
        greedy = sum(ticket.request.greedy_rows for ticket in tickets)
        metrics.batches.add(1, close.reason)
        metrics.batch_rows.observe(len(batch))
        if greedy:
            metrics.rows.add(greedy, "greedy")
        if greedy < len(batch):
            metrics.rows.add(len(batch) - greedy, "random")
        metrics.samples.add(batch.samples)
        metrics.input_bytes.add(sum(ticket.request.size_bytes for ticket in tickets))
        for ticket in tickets:
            metrics.queue_wait.observe(now - ticket.arrival)

    def _deliver(self, job: Job, outcome: Outcome, *, formed: float, rows: int) -> None:
        """Give every ticket its part of the results."""
        tickets = job.tickets
        self._metrics.compute.observe(outcome.compute_s)
        if gone := sum(ticket.is_cancelled for ticket in tickets):
            self._metrics.cancelled.add(gone, "computed")
        if outcome.results is None:
            _fail(tickets)
            return
        timings = [
            Timing(queue_s=formed - ticket.arrival, compute_s=outcome.compute_s, batch_rows=rows) for ticket in tickets
        ]
        try:
            for reason, count in failures(outcome.results):
                self._metrics.row_errors.add(count, reason.name.lower())
            answers = job.unpack(outcome.results, timings)
        except Exception:  # noqa: BLE001  # a bug of ours fails this batch and nothing else
            _LOG.exception("the results of a batch could not be unpacked")
            _fail(tickets)
            return
        for ticket, answer in zip(tickets, answers, strict=True):
            ticket.succeed(answer)


def _fail(tickets: list[Ticket]) -> None:
    """Tell every caller of a batch that it failed through a bug of ours."""
    for ticket in tickets:
        ticket.fail(InternalError())
