"""The batcher: takes batches from the queue when the policy says so, runs them, and delivers their results.

Rule 1: everything here runs on the event loop, without an await; the device thread calls back through the loop. Rule 2:
the policy is asked at the end of a turn of the loop, so that a burst of requests becomes one batch. Rule 3: a ticket
that was cancelled or has expired is dropped when its batch is formed, and never computed.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from samplerd_server.batching.cost_model import CostModel
from samplerd_server.batching.policy import REASONS, Close, DeviceState, decide, is_slice_next
from samplerd_server.batching.ticket_batch import TicketBatch, failures, form_batches
from samplerd_server.core.errors import DeadlineError, InternalError, SamplerdError
from samplerd_server.core.result import Timing
from samplerd_server.sampling.cdf_index.batch import IndexedBatch

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from samplerd_server.batching.batch_spans import BatchSpan, BatchSpans
    from samplerd_server.batching.queue import TicketQueue
    from samplerd_server.batching.slicer import Slicer
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import BatchingConfig
    from samplerd_server.engine.device_thread import DeviceBatch, Outcome
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["Batcher"]

_LOG = logging.getLogger("samplerd.batching")


class BatchRunner(Protocol):
    """The part of the engine that the batcher uses."""

    def submit(self, batch: DeviceBatch, deliver: Callable[[Outcome], None]) -> None:
        """Run a batch on the device thread, after those submitted before, then call `deliver` on the event loop."""
        ...

    def run(self, batch: DeviceBatch) -> Outcome:
        """Run a batch on the calling thread. Only while no submitted batch is unfinished."""
        ...

    @property
    def event_loop_draw_limit_s(self) -> float:
        """A batch predicted to take fewer seconds than this is run on the event loop; 0 = none is."""
        ...


class Batcher:
    """Forms batches, runs them and delivers their results."""

    def __init__(
        self,
        config: BatchingConfig,
        *,
        queue: TicketQueue,
        slicer: Slicer,
        cost_model: CostModel,
        engine: BatchRunner,
        metrics: Metrics,
        loop: AbstractEventLoop,
        tracing: BatchSpans | None = None,
    ) -> None:
        self._config = config
        self._tracing = tracing
        self._queue = queue
        self._slicer = slicer
        self._cost_model = cost_model
        self.loop_cost = CostModel()
        """Predicts how long a batch would keep the event loop, from processor time: the time that passes on the device
        thread includes waiting for Python's lock, and would send batches there for ever."""
        self._engine = engine
        self._metrics = metrics
        self._loop = loop
        self.device = DeviceState()
        """Batches on the device. Nobody else changes it."""
        self._requests = 0
        self._running: set[TicketBatch] = set()
        self.finished = 0
        """Batches that the device has finished."""
        self._is_decision_due = False
        self._timer: TimerHandle | None = None
        self._batches = {reason: metrics.batches.cell(reason) for reason in REASONS}
        self._greedy, self._random = metrics.rows.cell("greedy"), metrics.rows.cell("random")
        self._samples, self._input_bytes = metrics.samples.cell(), metrics.input_bytes.cell()

    @property
    def in_flight(self) -> int:
        """Requests in the queue or on the device."""
        return len(self._queue) + len(self._slicer) + self._requests

    @property
    def is_computing(self) -> bool:
        """Whether the device has a batch to compute."""
        return self.device.batches > 0

    def sweep(self, now: float) -> None:
        """Drop the queued tickets that nobody waits for: cancelled ones, and those whose deadline has passed."""
        for ticket in self._queue.remove(lambda ticket: ticket.is_cancelled or ticket.is_expired(now)):
            self._drop(ticket, now)
        self._slicer.sweep(now)

    def fail_all(self, error: SamplerdError) -> None:
        """Answer every request with an error; results of those that are at the device are not used."""
        tickets = [*self._queue.remove(lambda _: True), *self._slicer.tickets]
        for batch in self._running:
            tickets += batch.tickets
        for ticket in tickets:
            ticket.fail(error)

    def enqueue(self, ticket: Ticket) -> None:
        """Put an admitted ticket in the queue; its reply is resolved once its batch has run."""
        if self._slicer.is_long(ticket):
            self._slicer.add(ticket)
        else:
            self._queue.add(ticket)
        self._schedule_decision()

    def _schedule_decision(self) -> None:
        if not self._is_decision_due:
            self._is_decision_due = True
            self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        """Close batches as long as the policy says so."""
        self._is_decision_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        device = self.device
        while True:
            now = time.monotonic()
            if self._slicer and is_slice_next(self._queue, device):
                if device.batches:
                    return  # the slice runs once the device is idle
                if self._run_slice(now):
                    return
            decision = decide(now, self._queue, device, self._config)
            if isinstance(decision, Close):
                self._form(decision.reason, now)
                continue
            if decision.until is not None:
                if self._slicer and not device.batches and self._run_slice(now):
                    return
                # uvloop's timers count whole milliseconds; one that fires early only asks the policy again.
                self._timer = self._loop.call_later(max(0.0, decision.until - now), self._schedule_decision)
            return

    def _run_slice(self, now: float) -> bool:
        """Run the next slice of a long request on the device thread; returns whether there was one."""
        own = self._slicer.cut(now)
        if own is None:
            return False
        device, rows = self.device, len(own.packed)
        device.batches, device.rows, device.is_slicing = 1, rows, True
        device.begin(now, 0.0)  # admission lets nobody wait for long requests

        def deliver(outcome: Outcome) -> None:
            device.batches, device.rows, device.is_slicing = 0, 0, False
            device.finish(time.monotonic())
            self.finished += 1
            device.credit_s = outcome.compute_s * max(1, self._queue.connections)
            if self._queue.rows or self._slicer:
                self._schedule_decision()
            self._slicer.accept(own, outcome)

        self._engine.submit(own.packed, deliver)
        return True

    def _form(self, reason: str, now: float) -> None:
        """Take a batch from the queue, drop cancelled and expired tickets, and run the others."""
        tickets = []
        for ticket in self._queue.take(self._config.max_rows, self._config.max_bytes, self._slicer.most_work):
            if now < ticket.deadline and not ticket.reply.done():
                tickets.append(ticket)
            else:
                self._drop(ticket, now)
        for batch in form_batches(tickets):
            self._run(batch, reason, now)

    def _drop(self, ticket: Ticket, now: float) -> None:
        # Expiry is checked first, because transports also cancel a call whose deadline passes.
        if ticket.ended_late(now):
            self._metrics.expired.add(ticket.requests)
            ticket.fail(DeadlineError("the deadline passed while the request was queued; nothing was computed"))
        else:
            self._metrics.cancelled.add(ticket.requests, "queued")

    def _run(self, batch: TicketBatch, reason: str, now: float) -> None:
        """Run a batch: on the event loop if the device is idle and the batch is predicted short, else on its thread."""
        tickets, device = batch.tickets, self.device
        try:
            packed = batch.pack()
        except Exception:  # noqa: BLE001  # a bug in samplerd fails this batch and nothing else
            _LOG.exception("a batch could not be packed")
            _fail(tickets)
            return
        if isinstance(packed, IndexedBatch):
            self._metrics.indexed_samples.add(packed.samples)
        rows = len(packed)
        device.batches += 1
        device.rows += rows
        self._running.add(batch)
        requests = sum([ticket.requests for ticket in tickets])
        self._requests += requests
        work = self._count(tickets, reason, now, rows, packed.samples)
        span = None if self._tracing is None else self._begin_span(tickets, reason, now, rows)

        def deliver(outcome: Outcome) -> None:
            self.finished += 1
            self._running.discard(batch)
            device.batches -= 1
            device.rows -= rows
            device.finish(time.monotonic())
            device.credit_s -= outcome.compute_s
            self._requests -= requests
            if self._queue.rows or self._slicer:
                self._schedule_decision()
            self._cost_model.learn(work, outcome.compute_s)
            self.loop_cost.learn(work, outcome.compute_s if outcome.thread_s is None else outcome.thread_s)
            if span is not None and self._tracing is not None:
                self._tracing.end_batch(span, outcome.began_s, outcome.compute_s)
            self._deliver(batch, outcome, formed=now, rows=rows)

        device.begin(now, self._cost_model.predict(work))
        limit_s, cost = self._engine.event_loop_draw_limit_s, self.loop_cost
        if device.batches == 1 and cost.knows and cost.predict(work) < limit_s:
            deliver(self._engine.run(packed))
        else:
            self._engine.submit(packed, deliver)

    def _begin_span(self, tickets: list[Ticket], reason: str, now: float, rows: int) -> BatchSpan | None:
        """Begin the span of a batch, if a call of it is traced."""
        traced = [ticket for ticket in tickets if ticket.is_traced]
        if not traced or self._tracing is None:
            return None
        span = self._tracing.begin_batch(rows, sum(ticket.requests for ticket in tickets), reason, now)
        for ticket in traced:
            ticket.batch_span = span
        return span

    def _count(self, tickets: list[Ticket], reason: str, now: float, rows: int, samples: int) -> int:
        """Update the metrics for a batch that is about to run; returns its work."""
        work = size = greedy = 0
        wait = self._metrics.queue_wait_seconds
        for ticket in tickets:
            work += ticket.work
            size += ticket.size_bytes
            greedy += ticket.request.greedy_rows
            wait.observe_times(ticket.requests, now - ticket.arrival)
        self._batches[reason].value += 1
        self._metrics.batch_rows.observe(rows)
        self._greedy.value += greedy
        self._random.value += rows - greedy
        self._samples.value += samples
        self._input_bytes.value += size
        return work

    def _deliver(self, batch: TicketBatch, outcome: Outcome, *, formed: float, rows: int) -> None:
        """Resolve the reply of every ticket."""
        tickets, compute_s = batch.tickets, outcome.compute_s
        self._metrics.compute_seconds.observe(compute_s)
        if outcome.results is None:
            self._count_gone(tickets)
            _fail(tickets)
            return
        try:
            for reason, count in failures(outcome.results):
                self._metrics.row_errors.add(count, reason.name.lower())
            timings = [Timing(formed - ticket.arrival, compute_s, rows) for ticket in tickets]
            answers = batch.unpack(outcome.results, timings)
        except Exception:  # noqa: BLE001  # a bug in samplerd fails this batch and nothing else
            _LOG.exception("the results of a batch could not be unpacked")
            self._count_gone(tickets)
            _fail(tickets)
            return
        gone = 0
        for ticket, answer in zip(tickets, answers, strict=True):
            if ticket.reply.done():
                gone += ticket.requests
            elif isinstance(answer, SamplerdError):
                ticket.fail(answer)
            else:
                ticket.reply.set_result(answer)
        self._metrics.cancelled.add(gone, "computed")

    def _count_gone(self, tickets: list[Ticket]) -> None:
        self._metrics.cancelled.add(sum(own.requests for own in tickets if own.is_cancelled), "computed")


def _fail(tickets: list[Ticket]) -> None:
    """Answer every ticket with an internal error."""
    for ticket in tickets:
        ticket.fail(InternalError())
