"""VerifyDraft over real sockets: verdicts are the reference's, heed no company, and are counted right."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import (
    InvalidRequestError,
    RetryPolicy,
    RowErrorReason,
    SamplerClient,
    SyncSamplerClient,
    VerifyResult,
)
from samplerd_client.philox import RNG
from samplerd_server.core.enums import InputKind
from samplerd_server.core.params import SamplingParams
from tests.support.drafts import ask_reference, chain, random_parents
from tests.support.requests import one_hot
from tests.support.samplers import encode, params, request

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def client(address) -> Any:
    async with SamplerClient(address, timeout_s=120.0, retry=RetryPolicy(max_attempts=1)) as client:
        yield client


class Case:
    """One draft, with whatever parameters; `fields` are those of SamplingParams by their names in the proto."""

    def __init__(self, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        self.seed = int(numbers.integers(2**63)) * 2 + 1
        self.offset = int(numbers.integers(3)) * 1000
        length, width = int(numbers.integers(1, 6)), int(numbers.integers(2, 300))
        self.target = (2.0 * numbers.normal(size=(length + 1, width))).astype(np.float32)
        thought = self.target[:length] + numbers.normal(size=(length, width)) * 0.5
        self.draft = np.exp(thought).astype(np.float32) if seed % 3 else None
        self.is_weights = seed % 4 == 1
        if self.is_weights:
            self.target = np.exp(self.target)
        self.parents = random_parents(numbers, length) if seed % 5 == 2 else None
        if self.draft is None:
            self.ids = self.target[:length].argmax(axis=1).tolist()
        else:
            self.ids = [int(numbers.choice(width, p=row / row.sum())) for row in self.draft.astype(np.float64)]
        self.fields: dict[str, Any] = [
            {},
            {"temperature": 0.7},
            {"temperature": 0.0},
            {"top_k": 5},
            {"top_p": 0.8, "temperature": 1.3},
            {"top_k": 20, "top_p": 0.9, "min_p": 0.02},
        ][seed % 6]

    @property
    def options(self) -> dict[str, Any]:
        own = {} if self.parents is None else {"parents": self.parents}
        return {**self.fields, **own, "seed": self.seed, "draw_offset": self.offset, "probabilities": self.is_weights}

    async def sent_by(self, send: Any) -> VerifyResult:
        return await send(self.target, self.ids, self.draft, **self.options)

    def judged_by_the_reference(self) -> tuple[list[int], list[int]]:
        kind = InputKind.PROBABILITIES if self.is_weights else InputKind.LOGITS
        own: SamplingParams = params(**self.fields)
        asked = request(self.target, params=own, kind=kind, seed=self.seed, draw_offset=self.offset)
        parents = chain(len(self.ids)) if self.parents is None else self.parents
        verdict = ask_reference(asked, self.ids, parents, None if self.draft is None else encode(self.draft))
        return list(verdict.samples), list(verdict.path)


def said(result: VerifyResult) -> tuple[list[int], list[int]]:
    assert len(result.path) == result.accepted
    return result.samples.tolist(), result.path.tolist()


# What a reply says.


async def test_a_draft_that_is_certain_of_what_the_target_is(client):
    target = one_hot(4, 9, [5, 6, 7, 8])
    result = await client.verify_draft(target, [5, 6, 7], seed=3)
    assert (*said(result), result.seed, result.rng, result.row_errors) == ([5, 6, 7, 8], [0, 1, 2], 3, RNG, ())
    assert result.timing.batch_rows >= 4
    result = await client.verify_draft(target, [5, 0, 7])
    assert said(result) == ([5, 6], [0]), "the correction of the first wrong token, and nothing after it"
    result = await client.verify_draft(target, [0, 6, 7], one_hot(3, 9, [0, 6, 7]) == 0)
    assert said(result) == ([5], [])


async def test_the_tree_of_a_draft(client):
    """Tokens 4 and 5 may follow the sequence, 6 and 7 either of them; the target wants 5, 7 and then 8."""
    target = one_hot(7, 9, [5, 6, 7, 0, 0, 0, 8])
    ids, parents = [4, 5, 6, 7, 6, 7], [-1, -1, 0, 0, 1, 1]
    result = await client.verify_draft(target, ids, parents=parents)
    assert (*said(result), result.accepted) == ([5, 7, 8], [1, 5], 2)
    assert said(await client.verify_draft(target, ids, np.full((6, 9), 1.0), parents=parents)) == ([5, 7, 8], [1, 5])
    with pytest.raises(InvalidRequestError, match=r"parents\[2\]: 2 is not in \[-1, 2\)"):
        await client.verify_draft(target, ids, parents=[-1, -1, 2, 0, 1, 1])
    with pytest.raises(InvalidRequestError, match="parents: 5 parents for 6 drafted tokens"):
        await client.verify_draft(target, ids, parents=parents[:5])


async def test_the_seed_of_an_unseeded_draft_repeats_it(client):
    case = Case(7)
    for _ in range(5):
        one = await client.verify_draft(case.target, case.ids, case.draft)
        again = await client.verify_draft(case.target, case.ids, case.draft, seed=one.seed)
        assert said(one) == said(again)


async def test_the_reply_carries_the_id(service):
    target = pb.Tensor(rows=2, vocab_size=2, data=np.zeros(4, "<f4").tobytes())
    reply = await service.VerifyDraft(pb.VerifyDraftRequest(id=2**64 - 1, draft_ids=[1], target=target))
    assert reply.id == 2**64 - 1
    call = service.VerifyDraftStream()
    for number in (9, 10):
        await call.write(pb.VerifyDraftRequest(id=number, draft_ids=[1], target=target))
    await call.write(pb.VerifyDraftRequest(id=11, target=target))
    await call.done_writing()
    replies = {reply.id: reply async for reply in call}
    assert set(replies) == {9, 10, 11}
    assert replies[11].error.message.startswith("draft_ids: ")
    assert not replies[11].samples


# The reference.


async def test_every_verdict_is_the_references(stream):
    """200 drafts, each with a seed, a shape and parameters of its own; no draw is within rounding of a boundary."""
    cases = [Case(seed) for seed in range(200)]
    results = await asyncio.gather(*(case.sent_by(stream.verify) for case in cases))
    for case, result in zip(cases, results, strict=True):
        assert said(result) == case.judged_by_the_reference(), case.fields
        assert result.seed == case.seed
    lengths = [len(case.ids) - result.accepted for case, result in zip(cases, results, strict=True)]
    assert 0 in lengths, "some draft is accepted whole"
    assert max(lengths) > 1, "some draft is cut short"


async def test_unary_and_stream_and_sync_say_the_same(client, stream, address):
    cases = [Case(seed) for seed in range(12)]

    def in_a_thread() -> list[tuple[list[int], list[int]]]:
        with SyncSamplerClient(address) as sync, sync.verify_stream() as own:
            futures = [own.submit(case.target, case.ids, case.draft, **case.options) for case in cases]
            answers = [said(future.result()) for future in futures]
            for case, answer in zip(cases, answers, strict=True):
                assert said(sync.verify_draft(case.target, case.ids, case.draft, **case.options)) == answer
                assert said(own.verify(case.target, case.ids, case.draft, **case.options)) == answer
            return answers

    unary = [said(await case.sent_by(client.verify_draft)) for case in cases]
    streamed = [said(result) for result in await asyncio.gather(*(case.sent_by(stream.verify) for case in cases))]
    assert unary == streamed == await asyncio.to_thread(in_a_thread)


async def test_company_changes_no_verdict(client, stream):
    """40 drafts, each alone and then thrice amid the others and rows to draw from, in shuffled order."""
    cases = [Case(seed) for seed in range(40)]
    alone = [said(await case.sent_by(client.verify_draft)) for case in cases]
    order = random.Random(1)
    row = np.array([1.0, 2.0, 0.5, 1.5], np.float32)
    drawn = (await client.sample(row, num_samples=50, seed=9, temperature=0.7)).samples
    largest = 0
    async with client.stream() as samples:
        for _ in range(3):
            jobs: list[Any] = [*range(len(cases)), *[None] * 60]
            order.shuffle(jobs)
            calls = [
                samples.sample(row, num_samples=50, seed=9, temperature=0.7)
                if job is None
                else cases[job].sent_by((stream.verify, client.verify_draft)[job % 5 == 0])
                for job in jobs
            ]
            for job, result in zip(jobs, await asyncio.gather(*calls), strict=True):
                if job is None:
                    assert np.array_equal(result.samples, drawn)
                else:
                    assert said(result) == alone[job]
                    largest = max(largest, result.timing.batch_rows - len(cases[job].target))
    assert largest > 0, "no two drafts ever shared a batch"


# Failures.


@pytest.mark.parametrize("bad", [0, 1, 2, 3])
async def test_verification_stops_before_a_bad_target_row(client, bad):
    target = one_hot(4, 5, [1, 2, 3, 4])
    target[bad, 3] = np.nan
    result = await client.verify_draft(target, [1, 2, 3])
    assert said(result) == ([1, 2, 3][:bad], list(range(bad)))
    (error,) = result.row_errors
    assert (error.row, error.reason, error.message) == (bad, RowErrorReason.NAN, "NaN at id 3")


async def test_a_bad_row_behind_a_rejection_does_no_harm(client):
    target = one_hot(3, 5, [1, 2, 3])
    target[1:] = np.nan
    result = await client.verify_draft(target, [0, 2])
    assert (said(result), result.row_errors) == (([1], []), ())


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([1.0, np.nan, 1.0], RowErrorReason.NAN),
        ([1.0, np.inf, 1.0], RowErrorReason.POSITIVE_INFINITY),
        ([1.0, -0.5, 1.0], RowErrorReason.NEGATIVE_WEIGHT),
        ([0.0, 0.0, 0.0], RowErrorReason.NOTHING_TO_DRAW),
    ],
)
async def test_verification_stops_before_a_bad_draft_row(client, numbers, reason):
    draft = np.array([[0.0, 1.0, 0.0], numbers], np.float32)
    result = await client.verify_draft(one_hot(3, 3, [1, 2, 0]), [1, 2], draft)
    assert said(result) == ([1], [0])
    assert [(error.row, error.reason) for error in result.row_errors] == [(1, reason)]


async def test_bad_drafts_fail_alone(stream):
    cases = [Case(seed) for seed in range(30)]
    good = await asyncio.gather(*(case.sent_by(stream.verify) for case in cases))
    for case in cases[::3]:
        case.target[0] = np.nan
    for case in cases[1::3]:
        case.fields = {"temperature": -1.0}
    results = await asyncio.gather(*(case.sent_by(stream.verify) for case in cases), return_exceptions=True)
    for number, (result, before) in enumerate(zip(results, good, strict=True)):
        if number % 3 == 1:
            assert isinstance(result, InvalidRequestError)
            assert [violation.field for violation in result.violations] == ["params.temperature"]
        elif number % 3 == 0:
            assert said(result) == ([], [])
            assert [error.row for error in result.row_errors] == [0]
        else:
            assert said(result) == said(before)
    assert stream.in_flight == 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((np.zeros((2, 4), np.float32), []), "draft_ids"),
        ((np.zeros((3, 4), np.float32), [0]), "target.rows"),
        ((np.zeros((2, 4), np.float32), [4]), "draft_ids[0]"),
        ((np.zeros((2, 4), np.float32), [0], np.ones((2, 4), np.float32)), "draft.rows"),
        ((np.zeros((2, 4), np.float32), [0], np.ones((1, 5), np.float32)), "draft.vocab_size"),
    ],
)
async def test_a_malformed_draft_is_refused_with_its_field(client, stream, arguments, field):
    for send in (client.verify_draft, stream.verify):
        with pytest.raises(InvalidRequestError) as caught:
            await send(*arguments)
        assert [violation.field for violation in caught.value.violations] == [field]


# Figures.


async def test_every_figure_adds_up(daemon):
    def series(name: str, **labels: str) -> str:
        return name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"

    target = one_hot(3, 4, [1, 2, 3])
    bad = target.copy()
    bad[1, 0] = np.nan
    draft = np.full((2, 4), 0.25, np.float32)
    before = await asyncio.to_thread(daemon.metrics)
    async with SamplerClient(daemon.address) as client:
        async with client.verify_stream() as stream:
            await asyncio.gather(*(stream.verify(target, [1, 2], draft) for _ in range(10)))
            await stream.verify(target, [1, 2], temperature=0.0)
            with pytest.raises(InvalidRequestError):
                await stream.verify(target, [1])
        await client.verify_draft(bad, [1, 2])
        with pytest.raises(InvalidRequestError):
            await client.verify_draft(target, [])
    after = await asyncio.to_thread(daemon.metrics)
    expected = {
        series("samplerd_requests_total", rpc="VerifyDraftStream", code="OK"): 11,
        series("samplerd_requests_total", rpc="VerifyDraftStream", code="INVALID_ARGUMENT"): 1,
        series("samplerd_requests_total", rpc="VerifyDraft", code="OK"): 1,
        series("samplerd_requests_total", rpc="VerifyDraft", code="INVALID_ARGUMENT"): 1,
        series("samplerd_request_seconds_count", rpc="VerifyDraft"): 2,
        series("samplerd_request_seconds_count", rpc="VerifyDraftStream"): 12,
        series("samplerd_rows_total", path="random"): 3 * 10 + 3,
        series("samplerd_rows_total", path="greedy"): 3,
        "samplerd_samples_total": 12,
        "samplerd_input_bytes_total": 12 * target.nbytes + 10 * draft.nbytes,
        "samplerd_batch_rows_sum": 12 * 3,
        "samplerd_queue_wait_seconds_count": 12,
        series("samplerd_row_errors_total", reason="nan"): 1,
        series("samplerd_row_errors_total", reason="nothing_to_draw"): 0,
        series("samplerd_requests_total", rpc="Sample", code="OK"): 0,
    }
    assert {name: after[name] - before.get(name, 0.0) for name in expected} == expected
