"""The kinds of batches: what their tickets ask for, and how they are packed for the device and cut apart again.

Rows to draw from, drafts to verify and draws from tables wait in one queue and share its order and its bounds; when a
batch is formed, each kind becomes one job for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

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
    from samplerd_server.core.result import SampleResult, Timing
    from samplerd_server.sampling.cdf_index.batch import IndexedBatch
    from samplerd_server.sampling.rows import DraftVerdict

__all__ = ["Job", "failures", "pack_drafts", "split"]


class Job:
    """Tickets of one kind: at least one."""

    __slots__ = ("_drafts", "_requests", "tickets")

    def __init__(self, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self._requests: list[SampleRequest] = []
        self._drafts: list[VerifyRequest] = []
        kept: list[Any] = self._drafts if isinstance(tickets[0].request, VerifyRequest) else self._requests
        kept.extend([ticket.request for ticket in tickets])

    def pack(self) -> RowBatch | DraftBatch | IndexedBatch:
        """Lay out the rows of the tickets for the device."""
        if self._drafts:
            return pack_drafts(self._drafts)
        return pack(self._requests) if self._requests[0].cdf_index is None else pack_indexed(self._requests)

    def unpack(
        self, results: RowResults | tuple[DraftVerdict, ...], timings: Sequence[Timing]
    ) -> Sequence[SampleResult | VerifyResult]:
        """Cut the results apart: one per ticket."""
        if isinstance(results, RowResults):
            return unpack(self._requests, results, timings)
        return [
            _verify_result(request, verdict, timing)
            for request, verdict, timing in zip(self._drafts, results, timings, strict=True)
        ]


_MAX_SAMPLES = 1 << 22
"""Samples of one job, unless one request alone asks for more: bounds what its answers take, 16 MiB of ids, and
as much again for each kind of log-probabilities; requests may be small and their answers large."""


def split(tickets: list[Ticket]) -> Iterator[Job]:
    """Group tickets into jobs of one kind and of bounded answers; the usual batch is one job."""
    samples = 0
    for ticket in tickets:
        request = ticket.request
        is_usual = isinstance(request, SampleRequest) and request.cdf_index is None
        samples = samples + request.samples if is_usual else _MAX_SAMPLES
    if samples < _MAX_SAMPLES:
        if tickets:
            yield Job(tickets)
        return
    drafts = [ticket for ticket in tickets if isinstance(ticket.request, VerifyRequest)]
    samplings = [ticket for ticket in tickets if isinstance(ticket.request, SampleRequest)]
    yield from _bound([ticket for ticket in samplings if ticket.request.cdf_index is None])
    if drafts:
        yield Job(drafts)
    yield from _bound([ticket for ticket in samplings if ticket.request.cdf_index is not None])


def _bound(tickets: list[Ticket]) -> Iterator[Job]:
    begin = samples = 0
    for at, ticket in enumerate(tickets):
        samples += ticket.request.samples
        if samples > _MAX_SAMPLES and at > begin:
            yield Job(tickets[begin:at])
            begin, samples = at, ticket.request.samples
    if begin < len(tickets):
        yield Job(tickets[begin:])


def pack_drafts(requests: Sequence[VerifyRequest]) -> DraftBatch:
    """Lay out the sequences of `requests`, in order; each keeps the records of its own target rows."""
    return DraftBatch(
        sequences=tuple(
            DraftSequence(target=pack([request.target]), draft_ids=request.draft_ids, draft=request.draft)
            for request in requests
        )
    )


def failures(results: RowResults | tuple[DraftVerdict, ...]) -> Iterator[tuple[RowErrorReason, int]]:
    """Count failed rows by reason."""
    if isinstance(results, RowResults):
        if not np.count_nonzero(results.status):
            return
        for reason, count in enumerate(np.bincount(results.status).tolist()):
            if reason and count:
                yield RowErrorReason(reason), count
    else:
        for verdict in results:
            if verdict.reason is not RowErrorReason.NONE:
                yield verdict.reason, 1


def _verify_result(request: VerifyRequest, verdict: DraftVerdict, timing: Timing) -> VerifyResult:
    errors: tuple[RowError, ...] = ()
    if verdict.failed_row >= 0:
        message = describe(verdict.reason, verdict.detail, request.target.num_samples)
        errors = (RowError(row=verdict.failed_row, reason=verdict.reason, message=message),)
    return VerifyResult(samples=verdict.samples, accepted=verdict.accepted, row_errors=errors, timing=timing)
