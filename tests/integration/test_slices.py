"""A maximal request runs while small calls are answered: on a server whose device stands still until it is let go."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, failure, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

DRAWS = 1 << 22
"""The most samples of a request: priced at more than a second."""


def maximal(**fields) -> pb.SampleRequest:
    return pb.SampleRequest(
        tensor=tensor(one_hot(1, 100, 7)), num_samples=DRAWS, outputs=pb.Outputs(raw_samples=True), **fields
    )


def small(number: int) -> pb.SampleRequest:
    return pb.SampleRequest(id=number, tensor=tensor(one_hot(3, 100, number)))


async def test_small_calls_run_between_the_slices_of_a_maximal_request(serve):
    async with serve() as served:
        long = asyncio.ensure_future(served.stub.Sample(maximal()))
        await served.entered()  # its first slice
        calls = [served.stub.Sample(small(number)) for number in range(5)]
        await served.until(lambda: served.app.batcher.in_flight == 6)
        assert served.sampler.batches == [1], "nothing is closed ahead behind a slice"
        served.sampler.open()
        for number, reply in enumerate(await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)):
            assert list(reply.samples) == [number] * 3
        reply = await asyncio.wait_for(long, WAIT_S)
        samples = np.frombuffer(reply.raw_samples, "<i4")
        assert len(samples) == DRAWS
        assert (samples == 7).all()
        # The small calls were one batch of 15 rows, right after the slice that they met.
        assert served.sampler.batches[:2] == [1, 15]
        assert set(served.sampler.batches[2:]) == {1}
        await served.until(lambda: served.app.batcher.in_flight == 0)


async def test_a_small_call_of_the_same_connection_and_stream_overtakes_too(serve):
    async with serve() as served:
        stream = served.stub.SampleStream()
        await stream.write(maximal(id=1))
        await served.entered()
        await stream.write(small(2))
        await served.until(lambda: served.app.batcher.in_flight == 2)
        served.sampler.open()
        first = await asyncio.wait_for(stream.read(), WAIT_S)
        assert first.id == 2, "the later request is answered first"
        await stream.done_writing()
        chunks = []
        while (reply := await asyncio.wait_for(stream.read(), WAIT_S)) is not grpc.aio.EOF:
            chunks.append(reply)
        assert {reply.id for reply in chunks} == {1}
        assert sum(len(reply.raw_samples) for reply in chunks) == 4 * DRAWS


async def test_a_maximal_request_that_is_cancelled_stops_at_its_next_slice(serve):
    async with serve() as served:
        call = served.stub.Sample(maximal())
        await served.entered()
        call.cancel()
        await served.until(lambda: served.metrics.requests.value("Sample", "CANCELLED") == 1)
        served.sampler.open()
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert served.sampler.batches == [1], "no slice after the first one"
        assert served.metrics.cancelled.value("computed") == 1


async def test_a_maximal_request_past_its_deadline_stops_at_its_next_slice(serve):
    async with serve() as served:
        call = served.stub.Sample(maximal(), timeout=1.0)
        await served.entered()
        assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # The client's clock may be the first to notice; its call is cancelled then.
        requests = served.metrics.requests
        codes = ("DEADLINE_EXCEEDED", "CANCELLED")
        await served.until(lambda: sum(requests.value("Sample", code) for code in codes) == 1)
        served.sampler.open()
        await served.until(lambda: served.app.batcher.in_flight == 0)
        assert served.sampler.batches == [1]


async def test_two_maximal_requests_are_both_served_and_share_the_slices(serve):
    async with serve(batching={"max_slice_s": 0.005}) as served:
        async with connect(served.address) as other:
            calls = [served.stub.Sample(maximal()), stub(other).Sample(maximal())]
            await served.entered()
            await served.until(lambda: served.app.batcher.in_flight == 2)
            served.sampler.open()
            replies = await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)
        assert [len(reply.raw_samples) for reply in replies] == [4 * DRAWS] * 2
        assert served.metrics.batches.value("slice") == len(served.sampler.batches)


def _lots() -> dict[str, pb.SampleRequest | pb.VerifyDraftRequest]:
    """Requests that a slice of a millisecond cuts between rows, draws and drafted tokens."""
    numbers = np.random.default_rng(3).normal(size=(60, 10_000)) * 3
    filters = pb.SamplingParams(temperature=0.7, top_p=0.9, min_p=1e-4)
    every = pb.Outputs(logprobs=[pb.LOGPROB_KIND_RAW], rank=True, top_n=3, kept=True)
    wide = tensor(numbers[:10].reshape(1, -1))
    tree = {"draft_ids": numbers[:59].argmax(axis=1).tolist(), "parents": [-1, *np.arange(58) // 2]}
    return {
        "rows": pb.SampleRequest(tensor=tensor(numbers), params=filters, outputs=every, num_samples=2, seed=1),
        "rows with seeds": pb.SampleRequest(tensor=tensor(numbers), params=filters, row_seeds=range(60)),
        "draws": pb.SampleRequest(tensor=wide, params=filters, num_samples=200_000, outputs=every, seed=2),
        "plain draws": pb.SampleRequest(tensor=wide, num_samples=200_000, seed=3),
        "without replacement": pb.SampleRequest(
            tensor=wide, num_samples=50_000, replacement=pb.REPLACEMENT_WITHOUT, outputs=every, seed=4
        ),
        "draft": pb.VerifyDraftRequest(target=tensor(numbers), draft_ids=tree["draft_ids"], seed=5),
        "tree": pb.VerifyDraftRequest(target=tensor(numbers), **tree, params=filters, seed=6),
    }


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_a_slice_of_any_length_gives_the_same_answers(transport):
    asked, replies = _lots(), []
    for length in ("0", "100us"):
        with Daemon("--transport", transport, "--max-slice", length) as daemon:
            async with connect(daemon.address) as channel:
                own = stub(channel)
                answers = {
                    name: await (own.Sample if isinstance(request, pb.SampleRequest) else own.VerifyDraft)(request)
                    for name, request in asked.items()
                }
            slices = daemon.metrics().get('samplerd_batches_total{reason="slice"}', 0)
        for answer in answers.values():
            answer.ClearField("timing")
        replies.append((slices, answers))
    (none, whole), (many, sliced) = replies
    assert none == 0
    assert many > 5 * len(asked)
    for name, answer in whole.items():
        assert sliced[name] == answer, name


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_a_very_long_draw_by_torch_that_is_given_up_holds_nobody_up(transport):
    """It would take minutes in one go, though its price, which is the compiled sampler's, is that of some 20 ms."""
    numbers = np.random.default_rng(1).normal(size=(1, 200_000))
    long = pb.SampleRequest(tensor=tensor(numbers), num_samples=150_000, replacement=pb.REPLACEMENT_WITHOUT)
    with Daemon("--transport", transport, "--kernel", "torch") as daemon:
        async with connect(daemon.address) as channel:
            own = stub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await own.Sample(long, timeout=1.0)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert list((await own.Sample(small(5), timeout=WAIT_S)).samples) == [5] * 3
