"""Drafts through the client against a scripted server: retries, errors, and streams that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import (
    ConnectionLostError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    RetryPolicy,
    SamplerClient,
    SyncSamplerClient,
    UnavailableError,
)
from tests.support import fake_sampler as fake_module
from tests.support.fake_sampler import FakeSampler, fail, hang, status_with, verdict_of, violation

CODE = grpc.StatusCode
QUICK = RetryPolicy(initial_backoff_s=0.0, max_backoff_s=0.0)
TARGET = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0]], np.float32)
DRAFT = np.full((2, 3), 1.0 / 3.0)


@pytest.fixture
async def fake() -> AsyncIterator[FakeSampler]:
    sampler = FakeSampler()
    server, sampler.target = await fake_module.start(sampler)  # type: ignore[attr-defined]
    yield sampler
    await server.stop(0)


@pytest.fixture
async def client(fake: Any) -> AsyncIterator[SamplerClient]:
    async with SamplerClient(fake.target, retry=QUICK, timeout_s=20.0) as opened:
        yield opened
    others = [task for task in asyncio.all_tasks() if "samplerd-stream" in task.get_name()]
    assert not others, "a closed client leaves no task behind"


def refuse(code: grpc.StatusCode, *details: Any) -> Any:
    """A step that fails one request of a stream."""

    async def step(request: pb.VerifyDraftRequest, _context: Any) -> pb.VerifyDraftResponse:
        return pb.VerifyDraftResponse(id=request.id, error=status_with(code, "scripted", *details))

    return step


async def test_a_draft_arrives_whole(client: SamplerClient, fake: FakeSampler) -> None:
    result = await client.verify_draft(TARGET, [2, 0], DRAFT, seed=4, top_k=2)
    assert (result.samples.tolist(), result.accepted, result.seed) == ([2, 0, 1], 2, 4)
    (sent,) = fake.drafts
    assert (sent.target.data, sent.draft.data) == (TARGET.tobytes(), DRAFT.tobytes())
    assert (list(sent.draft_ids), sent.params.top_k) == ([2, 0], 2)


@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.RESOURCE_EXHAUSTED])
async def test_a_server_that_cannot_now_is_asked_again(
    client: SamplerClient, fake: FakeSampler, code: grpc.StatusCode
) -> None:
    fake.script = [fail(code, pushback="0")] * 2
    assert (await client.verify_draft(TARGET, [2, 0])).accepted == 2
    assert len(fake.drafts) == 3
    fake.script = [fail(code, pushback="0")] * 9
    with pytest.raises((UnavailableError, OverloadedError)):
        await client.verify_draft(TARGET, [2, 0])
    assert len(fake.drafts) == 3 + QUICK.max_attempts


async def test_what_is_wrong_is_not_asked_again(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [fail(CODE.INVALID_ARGUMENT, details=(violation("draft.rows"),))]
    with pytest.raises(InvalidRequestError) as caught:
        await client.verify_draft(TARGET, [2, 0])
    assert caught.value.violations[0].field == "draft.rows"
    assert len(fake.drafts) == 1


async def test_deadline(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [hang]
    with pytest.raises(DeadlineError):
        await client.verify_draft(TARGET, [2, 0], timeout_s=0.05)
    fake.script = [hang]
    async with client.verify_stream() as stream:
        with pytest.raises(DeadlineError):
            await stream.verify(TARGET, [2, 0], timeout_s=0.05)
        await stream.abort()


async def test_a_reply_that_makes_no_sense(client: SamplerClient, fake: FakeSampler) -> None:
    async def short(request: Any, _context: Any) -> Any:
        reply = verdict_of(request)
        del reply.samples[-1]
        return reply

    fake.script = [short]
    with pytest.raises(InternalError, match="2 tokens, of which 2 accepted"):
        await client.verify_draft(TARGET, [2, 0])


async def test_a_failing_draft_fails_alone(client: SamplerClient, fake: FakeSampler) -> None:
    async with client.verify_stream() as stream:
        fake.script = [refuse(CODE.INVALID_ARGUMENT, violation("draft_ids"))]
        with pytest.raises(InvalidRequestError) as caught:
            await stream.verify(TARGET, [2, 0])
        assert caught.value.violations[0].field == "draft_ids"
        results = await asyncio.gather(*(stream.verify(TARGET, [at % 3, 0]) for at in range(40)))
        assert [result.samples[0] for result in results] == [at % 3 for at in range(40)]
        assert stream.in_flight == 0


async def test_an_overloaded_draft_is_tried_again_on_the_stream(client: SamplerClient, fake: FakeSampler) -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(1)
    fake.script = [refuse(CODE.RESOURCE_EXHAUSTED, info), refuse(CODE.UNAVAILABLE)]
    async with client.verify_stream() as stream:
        assert (await stream.verify(TARGET, [2, 0])).accepted == 2
    assert len(fake.drafts) == 3


async def test_a_stream_that_breaks_tells_everyone(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [fail(CODE.UNAVAILABLE, "going away")]
    async with client.verify_stream(max_in_flight=2) as stream:
        calls = [stream.verify(TARGET, [2, 0]) for _ in range(6)]
        lost = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, ConnectionLostError) for error in lost)
    assert len(fake.drafts) == 1, "nothing is sent again behind the caller's back"


async def test_closing_the_client_closes_its_streams(fake: Any) -> None:
    client = await SamplerClient(fake.target).connect()
    stream = await client.verify_stream().__aenter__()
    await stream.verify(TARGET, [2, 0])
    await client.aclose()
    with pytest.raises(ConnectionLostError):
        await stream.verify(TARGET, [2, 0])
    with pytest.raises(ConnectionLostError, match="async with"):
        await client.verify_draft(TARGET, [2, 0])


async def test_the_synchronous_client(fake: Any) -> None:
    def work() -> None:
        with SyncSamplerClient(fake.target, retry=QUICK, timeout_s=20.0) as client:
            assert client.verify_draft(TARGET, [2, 0], DRAFT).samples.tolist() == [2, 0, 1]
            with client.verify_stream() as stream:
                futures = [stream.submit(TARGET, [at % 3, 0]) for at in range(20)]
                assert [future.result().samples[0] for future in futures] == [at % 3 for at in range(20)]
                assert stream.verify(TARGET, [1, 1]).samples.tolist() == [1, 1, 1]
        with pytest.raises(ConnectionLostError):
            client.verify_draft(TARGET, [2, 0])

    await asyncio.to_thread(work)
