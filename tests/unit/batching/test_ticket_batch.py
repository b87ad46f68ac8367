"""Rows to draw from and drafts to verify, taken from one queue: grouped, packed, counted and cut apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.batching.ticket_batch import TicketBatch, failures, form_batches, pack_drafts
from samplerd_server.core.enums import Dtype, RowErrorReason, Step
from samplerd_server.core.request import VerifyRequest
from samplerd_server.core.result import RowError, Timing
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.decode import decode, read_bytes
from samplerd_server.sampling.rows import DraftBatch, DraftVerdict, RowBatch, RowResults
from tests.support.requests import Reply, request, ticket

numbers = itertools.count()


def verify_request(tokens: int = 2, vocab_size: int = 4, *, has_rows: bool = False, **fields) -> VerifyRequest:
    """A draft whose target rows begin with a number that no other has."""
    rows = np.zeros((tokens + 1, vocab_size), np.float32)
    rows[:, 0] = next(numbers)
    data = np.full((tokens, vocab_size), 0.25, "<f4").tobytes()
    draft = DenseRows(dtype=Dtype.F32, rows=tokens, vocab_size=vocab_size, data=data) if has_rows else None
    return VerifyRequest(
        id=5,
        target=request(rows, **fields),
        draft_ids=np.arange(tokens, dtype=np.int32) % vocab_size,
        parents=np.arange(-1, tokens - 1, dtype=np.int32),
        draft=draft,
    )


def of(wanted: VerifyRequest) -> Ticket:
    return Ticket(wanted, 0.0, NO_DEADLINE, "a", Reply())


def timing(number: int) -> Timing:
    return Timing(queue_s=float(number), compute_s=0.5, batch_rows=7)


# Grouping.


def test_a_batch_of_one_kind_stays_as_it_is():
    samples, drafts = [ticket(), ticket()], [of(verify_request()), of(verify_request())]
    assert [job.tickets for job in form_batches(samples)] == [samples]
    assert [job.tickets for job in form_batches(drafts)] == [drafts]


def test_a_mixed_batch_becomes_two_that_keep_their_order():
    mixed = [of(verify_request()), ticket(), of(verify_request()), ticket(), ticket()]
    first, second = form_batches(mixed)
    assert first.tickets == [mixed[1], mixed[3], mixed[4]]
    assert second.tickets == [mixed[0], mixed[2]]
    assert isinstance(first.pack(), RowBatch)
    assert isinstance(second.pack(), DraftBatch)


def test_nothing_becomes_nothing_to_run():
    assert all(not job.tickets for job in form_batches([]))


def test_large_answers_are_spread_over_jobs():
    """Each request is small, but together their answers would take hundreds of MiB."""
    tickets = [ticket(num_samples=1 << 21) for _ in range(5)] + [ticket(num_samples=1 << 23), ticket()]
    jobs = [job.tickets for job in form_batches(tickets)]
    assert jobs == [tickets[0:2], tickets[2:4], tickets[4:5], tickets[5:6], tickets[6:7]]


# Packing.


def test_each_draft_keeps_its_own_rows():
    wanted = [verify_request(1, 3), verify_request(4, 5, has_rows=True), verify_request(2)]
    batch = pack_drafts(wanted)
    assert (len(batch), batch.samples) == (2 + 5 + 3, 3)
    for own, sequence in zip(wanted, batch.sequences, strict=True):
        assert sequence.draft_ids is own.draft_ids
        assert sequence.parents is own.parents
        assert sequence.draft is own.draft
        assert len(sequence.target) == own.rows
        firsts = [decode(read_bytes(int(row["data"]), 4), Dtype.F32)[0] for row in sequence.target.rows]
        assert firsts == [np.frombuffer(own.target.source.data, "<f4")[0]] * own.rows


def test_the_noise_of_a_draft_does_not_depend_on_its_place():
    wanted = [verify_request(seed=11), verify_request(seed=12, draw_offset=9)]
    for own, sequence in zip(wanted, pack_drafts(wanted).sequences, strict=True):
        rows = sequence.target.rows
        assert rows["row_index"].tolist() == [0, 1, 2]
        assert set(rows["seed"].tolist()) == {own.target.seed}
        assert set(rows["draw_offset"].tolist()) == {own.target.draw_offset}
        assert rows["num_samples"].tolist() == [1, 1, 1]


# Verdicts to results.


def test_each_ticket_gets_its_own_verdict():
    job = TicketBatch(tickets=[of(verify_request()), of(verify_request()), of(verify_request())])
    verdicts = (
        DraftVerdict(samples=(3,), path=()),
        DraftVerdict(samples=(0, 1, 2), path=(0, 1)),
        DraftVerdict(samples=(0, 2), path=(0,)),
    )
    results = job.unpack(verdicts, [timing(number) for number in range(3)])
    assert [(own.samples, own.path, own.row_errors) for own in results] == [
        ((3,), (), ()),
        ((0, 1, 2), (0, 1), ()),
        ((0, 2), (0,), ()),
    ]
    assert [own.timing for own in results] == [timing(0), timing(1), timing(2)]


@pytest.mark.parametrize(
    ("reason", "detail", "words"),
    [
        (RowErrorReason.NAN, 3, "NaN at id 3"),
        (RowErrorReason.NEGATIVE_WEIGHT, 0, "negative weight at id 0"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.MASK, "allowed_tokens, token_bitmask, bad_words"),
    ],
)
def test_a_row_that_failed_is_described(reason, detail, words):
    job = TicketBatch(tickets=[of(verify_request())])
    verdict = DraftVerdict(samples=(0,), path=(0,), failed_row=1, reason=reason, detail=int(detail))
    (result,) = job.unpack((verdict,), [timing(0)])
    assert (result.samples, result.path) == ((0,), (0,))
    (error,) = result.row_errors
    assert (error.row, error.reason) == (1, reason)
    assert error.message.startswith(words)


@pytest.mark.parametrize(
    ("reason", "detail", "message"),
    [
        (RowErrorReason.NAN, 3, "NaN at id 3 of draft row 2"),
        (RowErrorReason.NEGATIVE_WEIGHT, 0, "negative weight at id 0 of draft row 2"),
        (RowErrorReason.NOTHING_TO_DRAW, 0, "draft row 2 has no category with positive probability"),
    ],
)
def test_an_error_says_that_it_is_the_drafts(reason, detail, message):
    job = TicketBatch(tickets=[of(verify_request())])
    verdict = DraftVerdict(samples=(0,), path=(0,), failed_row=1, failed_draft=2, reason=reason, detail=detail)
    (result,) = job.unpack((verdict,), [timing(0)])
    assert result.row_errors == (RowError(row=1, reason=reason, message=message),)


def test_row_0_can_fail_too():
    job = TicketBatch(tickets=[of(verify_request())])
    verdict = DraftVerdict(samples=(), path=(), failed_row=0, reason=RowErrorReason.NAN, detail=1)
    (result,) = job.unpack((verdict,), [timing(0)])
    assert result.row_errors == (RowError(row=0, reason=RowErrorReason.NAN, message="NaN at id 1"),)


def test_a_verdict_too_few_is_a_bug_that_shows():
    job = TicketBatch(tickets=[of(verify_request()), of(verify_request())])
    with pytest.raises(ValueError, match="shorter"):
        job.unpack((DraftVerdict(samples=(3,), path=()),), [timing(0), timing(1)])


def test_rows_are_cut_apart_as_ever():
    job = TicketBatch(tickets=[ticket(rows=2), ticket()])
    drawn = RowResults(
        samples=np.array([1, -1, 3], np.int32), status=np.array([0, 1, 0], np.int32), detail=np.zeros(3, np.int64)
    )
    first, second = job.unpack(drawn, [timing(0), timing(1)])
    assert (first.samples.tolist(), second.samples.tolist()) == ([1, -1], [3])
    assert [error.row for error in first.row_errors] == [1]
    assert second.row_errors == ()


# Counting.


def test_failed_rows_are_counted_by_reason():
    status = np.array([0, 1, 4, 1, 0, 6], np.int32)
    drawn = RowResults(samples=np.zeros(6, np.int32), status=status, detail=np.zeros(6, np.int64))
    assert dict(failures(drawn)) == {
        RowErrorReason.NAN: 2,
        RowErrorReason.NOTHING_TO_DRAW: 1,
        RowErrorReason.OUTSIDE_CANDIDATES: 1,
    }
    status[:] = 0
    assert list(failures(drawn)) == []


def test_failed_rows_of_drafts_are_counted():
    good = DraftVerdict(samples=(1,), path=())
    bad = DraftVerdict(samples=(), path=(), failed_row=0, reason=RowErrorReason.NAN)
    worse = DraftVerdict(samples=(), path=(), failed_row=0, reason=RowErrorReason.POSITIVE_INFINITY)
    assert list(failures((good, good))) == []
    counts: dict[RowErrorReason, int] = {}
    for reason, count in failures((bad, good, worse, bad)):
        counts[reason] = counts.get(reason, 0) + count
    assert counts == {RowErrorReason.NAN: 2, RowErrorReason.POSITIVE_INFINITY: 1}
