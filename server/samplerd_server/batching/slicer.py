"""The slicer: runs the long requests slice by slice, and answers each when its last slice is done.

Rule 1: everything here runs on the event loop, without an await, as in the batcher, which says when a slice may run.
Rule 2: a request that was cancelled or has expired is dropped before its next slice. Rule 3: a slice is a batch like
any other to the device; nothing there knows that it is one.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

from samplerd_server.batching.cost_model import NOMINAL_RATE
from samplerd_server.batching.sliced import has_many_draws
from samplerd_server.batching.slices import LongRequests, SliceClock
from samplerd_server.batching.ticket_batch import TicketBatch, failures
from samplerd_server.core.errors import DeadlineError, InternalError, SamplerdError
from samplerd_server.core.result import Timing
from samplerd_server.sampling.cdf_index.batch import IndexedBatch

if TYPE_CHECKING:
    from samplerd_server.batching.cost_model import CostModel
    from samplerd_server.batching.slices import LongRequest
    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.config import BatchingConfig
    from samplerd_server.engine.device_thread import DeviceBatch, Outcome
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["Slice", "Slicer"]

_LOG = logging.getLogger("samplerd.batching")
_LEAST_WORK = 1e6
"""Nothing of a lower price, a millisecond, is cut: of so little, the overhead of a batch says more than the rate."""


class Slice(NamedTuple):
    """A part of a long request on its way to the device."""

    request: LongRequest
    packed: DeviceBatch


class Slicer:
    """The long requests, from their arrival to their answer."""

    def __init__(self, config: BatchingConfig, *, cost_model: CostModel, metrics: Metrics, most_draws: int = 0) -> None:
        """Begin without requests; most_draws: as of `Sampler`."""
        self._most_draws = most_draws
        self._slice_s = config.max_slice_s
        self._cost_model = cost_model
        self._metrics = metrics
        self._clock = SliceClock()
        self._requests = LongRequests(most_draws)

    def __len__(self) -> int:
        """Count the long requests that are not answered."""
        return len(self._requests)

    @property
    def rows(self) -> int:
        """Rows of those that have not begun: they count against the queue's bound."""
        return self._requests.rows

    @property
    def bytes(self) -> int:
        """Bytes of those rows."""
        return self._requests.bytes

    @property
    def work(self) -> float:
        """Price of what is left of all of them, in nanoseconds."""
        return self._requests.work

    @property
    def most_work(self) -> float:
        """The highest price of a batch: what the device should do within a slice, in nanoseconds."""
        if not self._slice_s:
            return math.inf
        return max(_LEAST_WORK, self._slice_s / (self._cost_model.rate or NOMINAL_RATE))

    def is_long(self, ticket: Ticket) -> bool:
        """Tell whether a request is computed in slices."""
        if ticket.work > self.most_work:
            return True
        return bool(self._slice_s) and has_many_draws(ticket.request, self._most_draws)

    def add(self, ticket: Ticket) -> None:
        """Let a long request wait for its first slice."""
        self._requests.add(ticket)

    def sweep(self, now: float) -> None:
        """Drop the requests that wait for their first slice and that nobody waits for."""
        for own in self._requests.remove_waiting(lambda ticket: ticket.is_cancelled or ticket.is_expired(now)):
            self._drop(own, now)

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets of all long requests that are not answered."""
        return self._requests.tickets

    def cut(self, now: float) -> Slice | None:
        """Form the next slice; None = nobody waits for any of the long requests any more."""
        while self._requests:
            request = self._requests.next()
            ticket = request.ticket
            if ticket.is_cancelled or ticket.is_expired(now):
                self._requests.remove(request)
                self._drop(request, now)
                continue
            try:
                return self._form(request, now)
            except Exception:  # noqa: BLE001  # a bug in samplerd fails this request and nothing else
                _LOG.exception("a slice could not be packed")
                self._requests.remove(request)
                ticket.fail(InternalError())
        return None

    def _form(self, request: LongRequest, now: float) -> Slice:
        packed = request.sliced.cut(request.budget(self._clock, self._slice_s))
        part, metrics, rows = request.sliced.part, self._metrics, len(packed)
        if not request.began:
            request.began = now
            metrics.queue_wait_seconds.observe(now - request.ticket.arrival)
        metrics.batches.add(1, "slice")
        metrics.batch_rows.observe(rows)
        metrics.samples.add(packed.samples)
        if isinstance(packed, IndexedBatch):
            metrics.indexed_samples.add(packed.samples)
        if request.sliced.begins_rows:
            metrics.rows.add(part.greedy_rows, "greedy")
            metrics.rows.add(rows - part.greedy_rows, "random")
            metrics.input_bytes.add(part.size_bytes)
        return Slice(request, packed)

    def _drop(self, request: LongRequest, now: float) -> None:
        # Expiry is checked first, because transports also cancel a call whose deadline passes.
        ticket = request.ticket
        if ticket.ended_late(now):
            self._metrics.expired.add(1)
            done = "the rest was not" if request.began else "nothing was"
            ticket.fail(DeadlineError(f"the deadline passed while the request was queued; {done} computed"))
        else:
            self._metrics.cancelled.add(1, "computed" if request.began else "queued")

    def accept(self, own: Slice, outcome: Outcome) -> None:
        """Take the outcome of a slice, and answer its request if that was the last one."""
        request, ticket = own.request, own.request.ticket
        work, seconds = request.sliced.cut_work, outcome.compute_s
        self._metrics.compute_seconds.observe(seconds)
        self._clock.learn(work, seconds)
        self._cost_model.learn(work, seconds)  # or a wrong rate would call requests long, and never be put right
        self._requests.learn(request, work, seconds)
        if outcome.has_failed:
            self._requests.remove(request)
            ticket.fail(InternalError())
            return
        try:
            request.sliced.accept(outcome.results)
            if request.sliced.is_done:
                self._answer(request)
        except Exception:  # noqa: BLE001  # a bug in samplerd fails this request and nothing else
            _LOG.exception("the results of a slice could not be taken")
            ticket.fail(InternalError())
            self._requests.remove(request)
            return
        if request.sliced.is_done:
            self._requests.remove(request)

    def _answer(self, request: LongRequest) -> None:
        ticket, results = request.ticket, request.sliced.results
        for reason, count in failures(results):
            self._metrics.row_errors.add(count, reason.name.lower())
        timing = Timing(request.began - ticket.arrival, request.compute_s, ticket.rows)
        (answer,) = TicketBatch([ticket]).unpack(results, [timing])
        if ticket.is_cancelled:
            self._metrics.cancelled.add(1, "computed")
        elif isinstance(answer, SamplerdError):
            ticket.fail(answer)
        else:
            ticket.reply.set_result(answer)
