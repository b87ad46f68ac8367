"""Several workers, one set of distributions: made through one, sampled, listed and deleted through all."""

from __future__ import annotations

import asyncio
import os
import signal

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, failure, stub
from tests.support.worker_pool import WORKERS, Crowd, children

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROWS = np.random.default_rng(7).normal(0, 3, (2, 1000)).astype(np.float32)


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def pool(request):
    with Daemon("--workers", str(WORKERS), "--transport", request.param, "--max-distributions", "2") as daemon:
        yield daemon


def new(name: str, **fields: object) -> pb.CreateDistributionRequest:
    return pb.CreateDistributionRequest(name=name, tensor=tensor(ROWS), **fields)


async def test_what_one_worker_keeps_all_of_them_draw_from(pool):
    async with Crowd(pool) as crowd:
        first = crowd.stubs[0]
        await first.CreateDistribution(new("words"))
        await first.CreateDistribution(new("baked", params=pb.SamplingParams(top_k=5, temperature=0.7)))
        for name in ("words", "baked"):
            asked = pb.SampleRequest(distribution=name, num_samples=50, seed=3)
            replies = await crowd.all(lambda own, asked=asked: own.Sample(asked))
            params = pb.SamplingParams(top_k=5, temperature=0.7) if name == "baked" else None
            sent = await first.Sample(pb.SampleRequest(tensor=tensor(ROWS), params=params, num_samples=50, seed=3))
            assert {tuple(reply.samples) for reply in replies} == {tuple(sent.samples)}
        pages = await crowd.all(lambda own: own.ListDistributions(pb.ListDistributionsRequest()))
        assert {tuple(one.name for one in page.distributions) for page in pages} == {("baked", "words")}
        # The limits are those of all together, and a name is taken everywhere.
        codes = {(await failure(own.CreateDistribution(new("more")))).code() for own in crowd.stubs}
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        metrics = await asyncio.to_thread(pool.metrics)
        assert metrics["samplerd_distributions"] == 2
        await crowd.stubs[-1].DeleteDistribution(pb.DeleteDistributionRequest(name="words"))
        codes = {(await failure(own.CreateDistribution(new("baked")))).code() for own in crowd.stubs}
        assert codes == {grpc.StatusCode.ALREADY_EXISTS}
        asked = pb.SampleRequest(distribution="words")
        assert {(await failure(own.Sample(asked))).code() for own in crowd.stubs} == {grpc.StatusCode.NOT_FOUND}
        await first.DeleteDistribution(pb.DeleteDistributionRequest(name="baked"))
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(pool.metrics))["samplerd_distribution_bytes"]:
                await crowd.all(lambda own: own.GetServerInfo(pb.GetServerInfoRequest()))


async def test_what_a_killed_worker_kept_is_there_for_the_others():
    with Daemon("--workers", str(WORKERS)) as pool:
        pool.forgiven.add("worker ended")
        async with Crowd(pool) as crowd:
            await crowd.stubs[0].CreateDistribution(new("words"))
        for pid in children(pool):
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(pool.wait_event, "worker serving", WAIT_S)
        async with connect(pool.address) as channel:
            asked = pb.SampleRequest(distribution="words", num_samples=5, seed=3)
            reply = await stub(channel).Sample(asked, wait_for_ready=True)
            sent = await stub(channel).Sample(pb.SampleRequest(tensor=tensor(ROWS), num_samples=5, seed=3))
            assert reply.samples == sent.samples
