"""The client against a scripted server, over real sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from samplerd_client import (
    AlreadyExistsError,
    Candidates,
    ConnectionLostError,
    DeadlineError,
    Health,
    InternalError,
    InvalidRequestError,
    MessageTooLargeError,
    NotFoundError,
    NotImplementedFieldError,
    OverloadedError,
    PermissionDeniedError,
    RetryPolicy,
    RowErrorReason,
    RowsFailedError,
    SamplerClient,
    SamplerdError,
    SamplingParams,
    SyncSamplerClient,
    TlsConfig,
    UnauthenticatedError,
    UnavailableError,
)
from tests.support import fake_sampler as fake_module
from tests.support.fake_sampler import FakeSampler, chunks_of, fail, hang, reply_to, status_with, violation
from tests.support.tools import need

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from samplerd.v1 import sampler_pb2 as pb

QUICK = RetryPolicy(initial_backoff_s=0.0, max_backoff_s=0.0)
CODE = grpc.StatusCode


def peak(at: int, width: int = 8) -> np.ndarray:
    """A row whose argmax is known."""
    row = np.zeros(width, dtype=np.float32)
    row[at] = 5.0
    return row


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


# ---------------------------------------------------------------------------------------------------- unary


async def test_rows_of_every_kind(client: SamplerClient, fake: FakeSampler) -> None:
    import torch  # noqa: PLC0415

    rows = np.stack([peak(3), peak(6)])
    for sent in (rows, rows.tolist(), torch.tensor(rows), torch.tensor(rows).bfloat16(), rows.astype(np.float16)):
        result = await client.sample(sent, num_samples=3)
        assert result.samples.tolist() == [[3, 3, 3], [6, 6, 6]]
        assert result.samples.dtype == np.int32
        assert result.samples.flags.writeable
    result = await client.sample(candidates=Candidates.from_logits(rows, 2))
    assert result.samples.tolist() == [[3], [6]]
    result = await client.sample(values=[[0.0, 2.0, 1.0]])
    assert result.samples.tolist() == [[1]]
    assert fake.requests[-1].WhichOneof("source") == "values"


async def test_outputs_come_as_arrays(client: SamplerClient) -> None:
    result = await client.sample(
        np.stack([peak(3), peak(6)]),
        num_samples=2,
        seed=7,
        logprobs=("raw", "processed"),
        top_n=3,
        logprob_ids=[1, 2],
        rank=True,
        entropy="scaled",
        kept=True,
        adaptive_state=True,
    )
    assert result.seed == 7
    assert result.logprobs["processed"].tolist() == [[-1.5, -1.5], [-1.5, -1.5]]
    assert result.top_ids["raw"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert result.top_logprobs["raw"].shape == (2, 3)
    assert result.named_logprobs["raw"].shape == (2, 2)
    assert result.ranks is not None
    assert result.ranks.shape == (2, 2)
    assert result.entropies["scaled"].tolist() == [2.0, 2.0]
    assert result.kept_count is not None
    assert result.kept_count.tolist() == [8, 8]
    assert result.adaptive_weighted_sum is not None
    assert result.adaptive_weighted_sum.tolist() == [[0.75, 0.75], [1.5, 1.5]]
    assert result.adaptive_total_weight is not None
    assert result.adaptive_total_weight.tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert result.timing.queue_s == pytest.approx(250e-6)
    assert result.timing.compute_s == pytest.approx(1.5e-3)
    assert result.timing.batch_rows == 2


async def test_failed_rows_raise_only_on_demand(client: SamplerClient) -> None:
    result = await client.sample([[1.0, 2.0], [float("nan"), 1.0]])
    assert result.samples.tolist() == [[1], [-1]]
    assert result.row_errors[0].reason is RowErrorReason.NAN
    with pytest.raises(RowsFailedError, match="row 1: the row holds a NaN") as caught:
        result.raise_for_rows()
    assert caught.value.row_errors == result.row_errors
    good = await client.sample([1.0, 2.0])
    assert good.raise_for_rows() is good


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODE.INVALID_ARGUMENT, InvalidRequestError),
        (CODE.OUT_OF_RANGE, InvalidRequestError),
        (CODE.UNIMPLEMENTED, NotImplementedFieldError),
        (CODE.NOT_FOUND, NotFoundError),
        (CODE.ALREADY_EXISTS, AlreadyExistsError),
        (CODE.DEADLINE_EXCEEDED, DeadlineError),
        (CODE.UNAUTHENTICATED, UnauthenticatedError),
        (CODE.PERMISSION_DENIED, PermissionDeniedError),
        (CODE.INTERNAL, InternalError),
        (CODE.UNKNOWN, InternalError),
        (CODE.DATA_LOSS, InternalError),
    ],
)
async def test_each_code_has_its_error(
    client: SamplerClient, fake: FakeSampler, code: grpc.StatusCode, kind: type[SamplerdError]
) -> None:
    fake.script = [fail(code, "told so")]
    with pytest.raises(kind, match="told so") as caught:
        await client.sample([1.0])
    assert type(caught.value) is kind
    assert len(fake.requests) == 1, "none of these is tried again"


async def test_details_are_decoded(client: SamplerClient, fake: FakeSampler) -> None:
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="samplerd.v1")
    fake.script = [fail(CODE.INVALID_ARGUMENT, details=(info, violation("params.top_p", "must be in (0, 1]")))]
    with pytest.raises(InvalidRequestError) as caught:
        await client.sample([1.0])
    assert caught.value.reason == "INVALID_REQUEST"
    assert [(entry.field, entry.description) for entry in caught.value.violations] == [
        ("params.top_p", "must be in (0, 1]")
    ]
    fake.script = [fail(CODE.INVALID_ARGUMENT, details=(violation("row[4]", "a NaN", "NAN"),))]
    with pytest.raises(RowsFailedError) as failed:
        await client.sample([1.0])
    assert failed.value.row_errors[0].row == 4
    assert failed.value.row_errors[0].reason is RowErrorReason.NAN
    fake.script = [fail(CODE.UNIMPLEMENTED, details=(violation("params.dry"),))]
    with pytest.raises(NotImplementedFieldError) as missing:
        await client.sample([1.0])
    assert missing.value.name == "params.dry"


async def test_one_row_that_is_too_large_is_told_apart_from_overload(client: SamplerClient, fake: FakeSampler) -> None:
    with pytest.raises(MessageTooLargeError):
        await client.sample(np.zeros(1 << 19, dtype=np.float32))
    assert fake.requests == []


async def test_a_reply_over_the_limit(fake: Any) -> None:
    async with SamplerClient(fake.target, max_message_bytes=1000) as client:
        with pytest.raises(MessageTooLargeError):
            await client.sample([1.0], num_samples=10_000)
    assert len(fake.requests) == 1


async def test_a_reply_that_makes_no_sense(client: SamplerClient, fake: FakeSampler) -> None:
    async def short(request: pb.SampleRequest, context: Any) -> pb.SampleResponse:
        reply = reply_to(request)
        reply.raw_samples = reply.raw_samples[:-4]
        return reply

    fake.script = [short]
    with pytest.raises(InternalError, match="does not fit"):
        await client.sample([1.0, 2.0], num_samples=3)


# -------------------------------------------------------------------------------------------------- retries


async def test_unavailable_is_tried_again(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [fail(CODE.UNAVAILABLE), fail(CODE.UNAVAILABLE)]
    assert (await client.sample(peak(2))).samples.tolist() == [[2]]
    assert len(fake.requests) == 3


async def test_the_attempts_end(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [fail(CODE.UNAVAILABLE)] * 9
    with pytest.raises(UnavailableError):
        await client.sample(peak(2))
    assert len(fake.requests) == QUICK.max_attempts


async def test_a_large_request_is_tried_again_too(client: SamplerClient, fake: FakeSampler) -> None:
    """gRPC's own retries give up above 256 KiB."""
    fake.script = [fail(CODE.UNAVAILABLE)]
    row = peak(77, 100_000)
    assert (await client.sample(row)).samples.tolist() == [[77]]
    assert len(fake.requests) == 2


async def test_pushback_is_obeyed(fake: Any) -> None:
    # The policy alone would wait for an hour; the hint says 5 ms.
    slow = RetryPolicy(initial_backoff_s=3600.0, max_backoff_s=3600.0)
    async with SamplerClient(fake.target, retry=slow) as client:
        fake.script = [fail(CODE.RESOURCE_EXHAUSTED, pushback="5")]
        assert (await client.sample(peak(2))).samples.tolist() == [[2]]
        fake.script = [fail(CODE.UNAVAILABLE, pushback="0")]
        assert (await client.sample(peak(2))).samples.tolist() == [[2]]


@pytest.mark.parametrize("pushback", ["-1", "soon"])
async def test_pushback_can_forbid(client: SamplerClient, fake: FakeSampler, pushback: str) -> None:
    fake.script = [fail(CODE.RESOURCE_EXHAUSTED, pushback=pushback)]
    with pytest.raises(OverloadedError) as caught:
        await client.sample([1.0])
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s < 0
    assert len(fake.requests) == 1


async def test_no_wait_past_the_deadline(client: SamplerClient, fake: FakeSampler) -> None:
    """The error comes at once when the server's hint is beyond the end of the call."""
    fake.script = [fail(CODE.RESOURCE_EXHAUSTED, pushback="60000")]
    with pytest.raises(OverloadedError) as caught:
        await client.sample([1.0], timeout_s=10.0)
    assert caught.value.retry_after_s == pytest.approx(60.0)


async def test_retry_info_counts_without_pushback(client: SamplerClient, fake: FakeSampler) -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(90_000)
    fake.script = [fail(CODE.RESOURCE_EXHAUSTED, details=(info,))]
    with pytest.raises(OverloadedError) as caught:
        await client.sample([1.0])
    assert caught.value.retry_after_s == pytest.approx(90.0)


async def test_deadline(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [hang]
    with pytest.raises(DeadlineError):
        await client.sample([1.0], timeout_s=0.05)


async def test_nobody_there() -> None:
    async with SamplerClient("127.0.0.1:1", retry=QUICK, timeout_s=5.0) as client:
        with pytest.raises(UnavailableError):
            await client.sample([1.0])
        with pytest.raises(DeadlineError):
            await client.wait_ready(0.2)


# -------------------------------------------------------------------------------------------- life of a client


async def test_closing_fails_the_calls_that_are_open(fake: Any) -> None:
    client = await SamplerClient(fake.target).connect()
    fake.script = [hang]
    task = asyncio.create_task(client.sample([1.0]))
    await fake.received.wait()
    await client.aclose()
    with pytest.raises(ConnectionLostError):
        await task
    with pytest.raises(ConnectionLostError, match="async with"):
        await client.sample([1.0])


async def test_cancelling_a_call(client: SamplerClient, fake: FakeSampler) -> None:
    fake.script = [hang]
    task = asyncio.create_task(client.sample([1.0]))
    await fake.received.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.sample(peak(1))).samples.tolist() == [[1]]


async def test_info_and_health(client: SamplerClient, fake: FakeSampler) -> None:
    info = await client.server_info()
    assert (info.version, info.limits.max_vocab_size, info.threads) == ("9.9.9", 1000, 3)
    assert info.start_time is not None
    assert info.start_time.year == 2023
    assert await client.health() is Health.SERVING
    with pytest.raises(NotFoundError):
        await client.health("nonsense")
    await fake.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert await client.health() is Health.NOT_SERVING
    with pytest.raises(DeadlineError):
        await client.wait_ready(0.15)
    ready = asyncio.create_task(client.wait_ready(20.0))
    await fake.health.set("", health_pb2.HealthCheckResponse.SERVING)
    await ready


async def test_unix_socket(tmp_path: Path) -> None:
    fake = FakeSampler()
    server, target = await fake_module.start(fake, f"unix:{tmp_path}/s")
    async with SamplerClient(target, token="secret") as client:
        assert (await client.sample(peak(4))).samples.tolist() == [[4]]
    assert fake.metadata[0]["authorization"] == "Bearer secret"
    assert fake.metadata[0]["user-agent"].startswith("samplerd-python/")
    await server.stop(0)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    openssl = need("openssl")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=sampler.test", "-addext", "subjectAltName=DNS:sampler.test"),
            *("-out", str(paths[0]), "-keyout", str(paths[1])),
        ],
        check=True,
        capture_output=True,
    )
    return paths


async def test_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    pair = (key.read_bytes(), cert.read_bytes())
    mutual = grpc.ssl_server_credentials([pair], root_certificates=cert.read_bytes(), require_client_auth=True)
    fake = FakeSampler()
    server, target = await fake_module.start(fake, credentials=mutual)
    tls = TlsConfig(ca=cert, certificate=cert, key=key.read_bytes(), server_name="sampler.test")
    async with SamplerClient(target, tls=tls, token="secret") as client:
        assert (await client.sample(peak(4))).samples.tolist() == [[4]]
    assert fake.metadata[0]["authorization"] == "Bearer secret"
    for wrong in (TlsConfig(ca=cert, server_name="sampler.test"), TlsConfig(server_name="sampler.test"), None):
        async with SamplerClient(target, tls=wrong, retry=QUICK, timeout_s=10.0) as client:
            with pytest.raises(UnavailableError):
                await client.sample(peak(4))
    assert len(fake.requests) == 1
    await server.stop(0)


def test_torch_stays_out() -> None:
    code = "import sys, samplerd_client, samplerd_client.samplerctl; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --------------------------------------------------------------------------------------------------- streams


async def test_replies_in_any_order_reach_their_callers(client: SamplerClient, fake: FakeSampler) -> None:
    async def backwards(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        waiting: list[pb.SampleRequest] = []
        async for request in requests:
            waiting.append(request)
            if len(waiting) == 10:
                while waiting:
                    yield reply_to(waiting.pop())

    fake.stream_step = backwards
    async with client.stream() as stream:
        results = await asyncio.gather(*(stream.sample(peak(at % 8)) for at in range(40)))
    assert [result.samples[0, 0] for result in results] == [at % 8 for at in range(40)]


async def test_a_failing_request_fails_alone(client: SamplerClient, fake: FakeSampler) -> None:
    async def picky(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        async for request in requests:
            reply = reply_to(request)
            if request.params.top_k == 13:
                reply.Clear()
                reply.id, reply.final = request.id, True
                reply.error.CopyFrom(status_with(CODE.INVALID_ARGUMENT, "no", violation("params.top_k")))
            yield reply

    fake.stream_step = picky
    async with client.stream() as stream:
        calls = (stream.sample(peak(1), top_k=k) for k in (12, 13, 14))
        good, bad, fine = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(bad, InvalidRequestError)
        assert bad.violations[0].field == "params.top_k"
        assert not isinstance(good, BaseException)
        assert not isinstance(fine, BaseException)
        assert stream.in_flight == 0


async def test_an_overloaded_request_is_tried_again_on_the_stream(client: SamplerClient, fake: FakeSampler) -> None:
    async def once(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(1)
        async for request in requests:
            reply = reply_to(request)
            if len(fake.requests) == 1:
                reply.Clear()
                reply.id = request.id
                reply.error.CopyFrom(status_with(CODE.RESOURCE_EXHAUSTED, "full", info))
            yield reply

    fake.stream_step = once
    async with client.stream() as stream:
        assert (await stream.sample(peak(1))).samples.tolist() == [[1]]
    assert len(fake.requests) == 2


async def test_chunks(client: SamplerClient, fake: FakeSampler) -> None:
    async def chunked(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        first = await anext(requests)
        second = await anext(requests)
        for ours, theirs in zip(chunks_of(first, 7), chunks_of(second, 7), strict=True):
            yield ours  # the chunks of two requests, in turn
            yield theirs
        async for request in requests:
            for chunk in chunks_of(request, 7):
                yield chunk

    fake.stream_step = chunked
    rows = np.stack([peak(1), peak(2), peak(3)])
    async with client.stream() as stream:
        options: Any = {"num_samples": 10, "logprobs": ("raw",), "rank": True}
        one, two = await asyncio.gather(stream.sample(rows, **options), stream.sample(rows[::-1], **options))
        assert one.samples.tolist() == [[1] * 10, [2] * 10, [3] * 10]
        assert two.samples.tolist() == [[3] * 10, [2] * 10, [1] * 10]
        assert one.logprobs["raw"].shape == (3, 10)
        assert one.ranks is not None
        assert one.ranks.shape == (3, 10)
        assert one.timing.batch_rows == 3
        chunks = [chunk async for chunk in stream.sample_chunks(rows, **options)]
    assert [len(chunk.samples) for chunk in chunks] == [7, 7, 7, 7, 2]
    assert [chunk.offset for chunk in chunks] == [0, 7, 14, 21, 28]
    assert [chunk.is_final for chunk in chunks] == [False] * 4 + [True]
    assert np.concatenate([chunk.samples for chunk in chunks]).tolist() == [1] * 10 + [2] * 10 + [3] * 10


async def test_leaving_chunks_early(client: SamplerClient, fake: FakeSampler) -> None:
    async def chunked(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        async for request in requests:
            for chunk in chunks_of(request, 2):
                yield chunk

    fake.stream_step = chunked
    async with client.stream(max_in_flight=1) as stream:
        async with aclosing(stream.sample_chunks(peak(1), num_samples=20)) as chunks:  # type: ignore[type-var]
            async for _ in chunks:
                break
        assert (await stream.sample(peak(2))).samples.tolist() == [[2]], "its place is free again"


async def test_cancelling_one_caller_hurts_no_other(client: SamplerClient, fake: FakeSampler) -> None:
    release = asyncio.Event()

    async def held(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        first = [await anext(requests) for _ in range(3)]
        await release.wait()
        for request in first:
            yield reply_to(request)
        async for request in requests:
            yield reply_to(request)

    fake.stream_step = held
    async with client.stream() as stream:
        tasks = [asyncio.create_task(stream.sample(peak(at))) for at in range(3)]
        while len(fake.requests) < 3:
            fake.received.clear()
            await fake.received.wait()
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert stream.in_flight == 3, "the server still works on it"
        release.set()
        assert (await tasks[0]).samples.tolist() == [[0]]
        assert (await tasks[2]).samples.tolist() == [[2]]
        assert (await stream.sample(peak(5))).samples.tolist() == [[5]]
        assert stream.in_flight == 0


async def test_in_flight_is_bounded(client: SamplerClient, fake: FakeSampler) -> None:
    most = 0

    async def watching(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        nonlocal most
        async for request in requests:
            most = max(most, stream.in_flight)
            yield reply_to(request)

    fake.stream_step = watching
    async with client.stream(max_in_flight=4) as stream:
        await asyncio.gather(*(stream.sample(peak(at % 8)) for at in range(50)))
    assert 1 <= most <= 4
    with pytest.raises(ValueError, match="max_in_flight"):
        client.stream(max_in_flight=0)


async def test_a_stream_that_breaks_tells_everyone(client: SamplerClient, fake: FakeSampler) -> None:
    async def breaking(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        yield reply_to(await anext(requests))
        await anext(requests)
        await context.abort(CODE.UNAVAILABLE, "going away")

    fake.stream_step = breaking
    async with client.stream(max_in_flight=2) as stream:
        assert (await stream.sample(peak(6))).samples.tolist() == [[6]]
        lost = await asyncio.gather(*(stream.sample(peak(at)) for at in range(6)), return_exceptions=True)
        assert all(isinstance(error, ConnectionLostError) for error in lost)
        with pytest.raises(ConnectionLostError, match="broke"):
            await stream.sample(peak(1))
    async with client.stream(max_in_flight=2) as stream:
        await stream.sample(peak(6))
        with pytest.raises(ConnectionLostError, match="UNAVAILABLE: going away") as caught:
            await stream.sample(peak(1))
        assert isinstance(caught.value.__cause__, UnavailableError)
    fake.stream_step = None
    async with client.stream() as stream:
        assert (await stream.sample(peak(3))).samples.tolist() == [[3]], "a new one is the caller's to open"


async def test_a_server_that_ends_the_stream(client: SamplerClient, fake: FakeSampler) -> None:
    async def ending(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        yield reply_to(await anext(requests))

    fake.stream_step = ending
    async with client.stream() as stream:
        await stream.sample(peak(6))
        with pytest.raises(ConnectionLostError, match="ended the stream"):
            await stream.sample(peak(6))


async def test_a_request_on_a_stream_has_its_own_deadline(client: SamplerClient, fake: FakeSampler) -> None:
    async def silent(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        first = await anext(requests)
        async for request in requests:
            yield reply_to(request)
        yield reply_to(first)  # late, and wanted by nobody

    fake.stream_step = silent
    async with client.stream() as stream:
        with pytest.raises(DeadlineError):
            await stream.sample(peak(1), timeout_s=0.05)
        assert (await stream.sample(peak(2))).samples.tolist() == [[2]]


async def test_leaving_a_stream_by_an_exception(client: SamplerClient, fake: FakeSampler) -> None:
    async def silent(requests: AsyncIterator[pb.SampleRequest], context: Any) -> AsyncIterator[pb.SampleResponse]:
        async for request in requests:
            if request.num_samples > 1:
                yield reply_to(request)

    fake.stream_step = silent
    stream = await client.stream().__aenter__()
    task = asyncio.create_task(stream.sample(peak(1)))
    await fake.received.wait()
    assert await stream.__aexit__(KeyError, KeyError(), None) is None
    with pytest.raises(ConnectionLostError, match="closed"):
        await task
    with pytest.raises(ConnectionLostError):
        await stream.sample(peak(1))


async def test_closing_the_client_closes_its_streams(fake: Any) -> None:
    client = await SamplerClient(fake.target).connect()
    stream = await client.stream().__aenter__()
    await stream.sample(peak(1))
    await client.aclose()
    with pytest.raises(ConnectionLostError):
        await stream.sample(peak(1))


# ----------------------------------------------------------------------------------------------- synchronous


async def test_the_synchronous_client(fake: Any) -> None:
    def work() -> None:
        with SyncSamplerClient(fake.target, retry=QUICK, timeout_s=20.0) as client:
            client.wait_ready()
            assert client.health() is Health.SERVING
            assert client.server_info().version == "9.9.9"
            assert client.sample(peak(5), params=SamplingParams(temperature=0.5)).samples.tolist() == [[5]]
            with client.stream() as stream:
                futures = [stream.submit(peak(at % 8)) for at in range(20)]
                assert [future.result().samples[0, 0] for future in futures] == [at % 8 for at in range(20)]
                assert stream.sample(peak(2)).samples.tolist() == [[2]]
                assert [chunk.samples.tolist() for chunk in stream.sample_chunks(peak(3))] == [[3]]
            with pytest.raises(NotImplementedFieldError):
                client.list_distributions()
        client.close()
        with pytest.raises(ConnectionLostError):
            client.sample(peak(1))

    await asyncio.to_thread(work)
    await asyncio.to_thread(work)  # a second loop thread after the first has ended
