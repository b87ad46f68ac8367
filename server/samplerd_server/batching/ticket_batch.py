"""Batches of tickets of one kind, packed for the device and unpacked into one result for each ticket.

Rows to draw from, drafts to verify and draws from a CDF index wait in one queue and share its order and its bounds.
When a batch is taken from the queue, each kind becomes a batch of its own for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.batching.lost_rows import fail_lost
from samplerd_server.batching.pack import pack, unpack
from samplerd_server.batching.pack_indexed import pack_indexed
from samplerd_server.batching.row_errors import describe
from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.request import SampleRequest, VerifyRequest
from samplerd_server.core.result import RowError, VerifyResult
from samplerd_server.sampling.rows import DraftBatch, DraftSequence, RowBatch, RowResults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.core.result import SampleResult, Timing
    from samplerd_server.sampling.cdf_index.batch import IndexedBatch
    from samplerd_server.sampling.rows import DraftVerdict

__all__ = ["TicketBatch", "failures", "form_batches", "pack_drafts", "pack_one"]


class TicketBatch:
    """Tickets of one kind that the device runs together: at least one."""

    __slots__ = ("_drafts", "_requests", "tickets")

    def __init__(self, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self._requests: list[SampleRequest] = []
        self._drafts: list[VerifyRequest] = []
        own: list[Any] = self._drafts if isinstance(tickets[0].request, VerifyRequest) else self._requests
        own.extend([ticket.request for ticket in tickets])

    def pack(self) -> RowBatch | DraftBatch | IndexedBatch:
        """Lay out the rows of the tickets for the device."""
        return pack_drafts(self._drafts) if self._drafts else _pack_samples(self._requests)

    def unpack(
        self, results: RowResults | tuple[DraftVerdict, ...], timings: Sequence[Timing]
    ) -> Sequence[SampleResult | VerifyResult | SamplerdError]:
        """Give the result of each ticket, in order, or its error."""
        if isinstance(results, RowResults):
            return fail_lost(self._requests, results, unpack(self._requests, results, timings))
        return [
            _verify_result(request, verdict, timing)
            for request, verdict, timing in zip(self._drafts, results, timings, strict=True)
        ]


_MAX_SAMPLES = 1 << 22
"""Most samples of one batch, unless one request alone asks for more. Bounds the memory of the answers, which may be
large
for small requests: 16 MiB of ids, and as much again for each kind of log-probabilities."""


def form_batches(tickets: list[Ticket]) -> Iterator[TicketBatch]:
    """Group tickets by kind and bound the samples of each group; usually all tickets form one batch."""
    samples = 0
    for ticket in tickets:
        request = ticket.request
        is_usual = isinstance(request, SampleRequest) and request.cdf_index is None
        samples = samples + request.samples if is_usual else _MAX_SAMPLES
    if samples < _MAX_SAMPLES:
        if tickets:
            yield TicketBatch(tickets)
        return
    drafts = [ticket for ticket in tickets if isinstance(ticket.request, VerifyRequest)]
    samplings = [ticket for ticket in tickets if isinstance(ticket.request, SampleRequest)]
    yield from _bound([ticket for ticket in samplings if ticket.request.cdf_index is None])
    if drafts:
        yield TicketBatch(drafts)
    yield from _bound([ticket for ticket in samplings if ticket.request.cdf_index is not None])


def _bound(tickets: list[Ticket]) -> Iterator[TicketBatch]:
    begin = samples = 0
    for at, ticket in enumerate(tickets):
        samples += ticket.request.samples
        if samples > _MAX_SAMPLES and at > begin:
            yield TicketBatch(tickets[begin:at])
            begin, samples = at, ticket.request.samples
    if begin < len(tickets):
        yield TicketBatch(tickets[begin:])


def pack_one(request: SampleRequest | VerifyRequest) -> RowBatch | DraftBatch | IndexedBatch:
    """Lay out the rows of one request for the device."""
    return pack_drafts([request]) if isinstance(request, VerifyRequest) else _pack_samples([request])


def _pack_samples(requests: Sequence[SampleRequest]) -> RowBatch | IndexedBatch:
    return pack(requests) if requests[0].cdf_index is None else pack_indexed(requests)


def pack_drafts(requests: Sequence[VerifyRequest]) -> DraftBatch:
    """Lay out the sequences of `requests`, in order; each has the records of its own target rows."""
    return DraftBatch(
        sequences=tuple(
            DraftSequence(
                target=pack([request.target]),
                draft_ids=request.draft_ids,
                parents=request.parents,
                draft=request.draft,
            )
            for request in requests
        )
    )


def failures(results: RowResults | tuple[DraftVerdict, ...]) -> Iterator[tuple[RowErrorReason, int]]:
    """Count failed rows by reason."""
    if isinstance(results, RowResults):
        if not np.count_nonzero(results.status):
            return
        for reason, count in enumerate(np.bincount(results.status[results.status > 0]).tolist()):
            if reason and count:
                yield RowErrorReason(reason), count
    else:
        for verdict in results:
            if verdict.reason is not RowErrorReason.NONE:
                yield verdict.reason, 1


def _verify_result(request: VerifyRequest, verdict: DraftVerdict, timing: Timing) -> VerifyResult:
    errors: tuple[RowError, ...] = ()
    if verdict.failed_row >= 0:
        message = describe(verdict.reason, verdict.detail, request.target.num_samples, verdict.failed_draft)
        errors = (RowError(row=verdict.failed_row, reason=verdict.reason, message=message),)
    return VerifyResult(samples=verdict.samples, path=verdict.path, row_errors=errors, timing=timing)
