"""Coalesced calls over real sockets: before a real samplerd against the same calls made alone, and before a scripted
one that breaks, delays and refuses."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samplerd_client import (
    Coalescing,
    ConnectionLostError,
    DeadlineError,
    OverloadedError,
    RetryPolicy,
    RowsFailedError,
    SamplerClient,
    SamplerdError,
    SampleResult,
    SamplingParams,
    SyncSamplerClient,
    UnavailableError,
)
from tests.support import fake_sampler as fake_module
from tests.support.fake_sampler import FakeSampler, fail, hang, reply_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from samplerd.v1 import sampler_pb2 as pb
    from tests.support.daemon import Daemon

QUICK = RetryPolicy(initial_backoff_s=0.0, max_backoff_s=0.0, budget=1e6)
CODE = grpc.StatusCode


@pytest.fixture(scope="session")
def address(daemon: Daemon) -> str:
    """Where a real samplerd is, once on each transport."""
    return daemon.address


@pytest.fixture
async def fake() -> AsyncIterator[FakeSampler]:
    sampler = FakeSampler()
    server, sampler.target = await fake_module.start(sampler)  # type: ignore[attr-defined]
    yield sampler
    await server.stop(0)


def peak(at: int, width: int = 8) -> np.ndarray:
    """A row whose argmax is known."""
    row = np.zeros(width, dtype=np.float32)
    row[at % width] = 5.0
    return row


async def all_of(*calls: Any) -> list[Any]:
    async with asyncio.timeout(60.0):
        return await asyncio.gather(*calls, return_exceptions=True)


# ------------------------------------------------------------------------------- the same as alone, on a real server

V = 40
ROWS = np.random.default_rng(5).normal(0.0, 3.0, size=(6, V)).astype(np.float32)
ROWS[3, 7] = math.nan
ROWS[4, :] = -math.inf
ROWS[5, 2:] = -math.inf

PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 1.0, 2.0, -1.0]),
        "top_k": st.sampled_from([0, 1, 5, 1000]),
        "top_p": st.sampled_from([1.0, 0.9, 0.5, 1e-9, 1.0, 7.0]),
        "min_p": st.sampled_from([0.0, 0.2]),
        "xtc_threshold": st.just(0.05),
        "xtc_probability": st.just(0.5),
        "repetition_penalty": st.just(1.3),
        "history": st.lists(st.integers(0, V - 1), max_size=4),
        "logit_bias": st.dictionaries(st.integers(0, V), st.sampled_from([-1.0, 2.5]), max_size=2),
        "allowed_tokens": st.lists(st.integers(0, V - 1), min_size=1, max_size=9),
        "order": st.sampled_from(["vllm", "llama_cpp", "joint"]),
    },
)
COMMON = st.fixed_dictionaries(
    {},
    optional={
        "num_samples": st.sampled_from([1, 1, 3]),
        "replacement": st.booleans(),
        "draw_offset": st.sampled_from([0, 0, 7]),
        "priority": st.sampled_from([0, -100, 101]),
        "dtype": st.sampled_from(["f32", "bf16"]),
        "logprobs": st.sampled_from(["raw", ("scaled", "processed")]),
        "top_n": st.sampled_from([2, 2, 5000]),
        "logprob_ids": st.sampled_from([[1, 2], [V]]),
        "rank": st.booleans(),
        "entropy": st.just("processed"),
        "kept": st.booleans(),
        "adaptive_state": st.booleans(),
        "probabilities": st.booleans(),
    },
)


@st.composite
def mixed_calls(draw: Any) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Calls that often agree in what makes company: there are at most three kinds of them."""
    kinds = draw(st.lists(st.one_of(st.just({}), COMMON), min_size=1, max_size=3))
    calls = []
    for _ in range(draw(st.integers(2, 25))):
        options = {**draw(st.sampled_from(kinds)), **draw(st.one_of(st.just({}), PARAMS))}
        options["seed"] = draw(st.integers(0, 2**64 - 1))
        calls.append((ROWS[draw(st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5]))], options))
    return calls


def told(outcome: Any) -> Any:
    """All that a caller can see of an outcome, but its timing."""
    if isinstance(outcome, SampleResult):
        names = [name for name in SampleResult.__dataclass_fields__ if name != "timing"]
        return {name: bits(getattr(outcome, name)) for name in names}
    assert isinstance(outcome, SamplerdError), outcome
    told = {name: value for name, value in vars(outcome).items() if name != "request_id"}  # each call has its own
    return type(outcome), str(outcome), told


def bits(value: Any) -> Any:
    if isinstance(value, dict):
        return {kind: bits(own) for kind, own in value.items()}
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls=mixed_calls())
def test_a_coalesced_call_is_what_it_is_alone(address: str, calls: list[tuple[np.ndarray, dict[str, Any]]]) -> None:
    async def run() -> None:
        async with SamplerClient(address) as together, SamplerClient(address, coalesce=False) as alone:
            one = await all_of(*(together.sample(row, **options) for row, options in calls))
            other = [(await all_of(alone.sample(row, **options)))[0] for row, options in calls]
        for first, second in zip(one, other, strict=True):
            assert told(first) == told(second)

    asyncio.run(run())


async def test_an_unseeded_call_tells_its_seed(address: str) -> None:
    async with SamplerClient(address) as client:
        options: dict[str, Any] = {
            "num_samples": 5,
            "xtc_threshold": 0.05,
            "xtc_probability": 0.5,
            "logprobs": "processed",
        }
        results = await all_of(*(client.sample(ROWS[at % 3], **options) for at in range(60)))
        assert len({result.seed for result in results}) == 60
        assert max(result.timing.batch_rows for result in results) > 10
        for at, result in enumerate(results):
            again = await client.sample(ROWS[at % 3], seed=result.seed, **options)
            assert told(again) == told(result)


async def test_parameters_of_every_form_share_a_request(address: str) -> None:
    async with SamplerClient(address) as client:
        results = await all_of(
            client.sample(ROWS[0].tolist(), seed=1),
            *(client.sample(ROWS[0], seed=1, params=SamplingParams(top_k=40 + at)) for at in range(20)),
            *(client.sample(ROWS[:1], seed=1, top_p=1.0) for _ in range(20)),
        )
    assert {result.samples.tobytes() for result in results} == {results[0].samples.tobytes()}
    assert results[20].timing.batch_rows > 20


async def test_rows_of_which_few_fill_a_request(address: str) -> None:
    rows = np.random.default_rng(1).normal(size=(8, 50_000)).astype(np.float32)
    async with SamplerClient(address) as together, SamplerClient(address, coalesce=False) as alone:
        results = await all_of(*(together.sample(rows[at % 8], seed=at, top_k=9) for at in range(64)))
        for at in range(0, 64, 5):
            assert told(results[at]) == told(await alone.sample(rows[at % 8], seed=at, top_k=9))


def test_threads_share_requests(address: str) -> None:
    threads, each = 16, 25
    barrier = threading.Barrier(threads)
    with SyncSamplerClient(address) as client, ThreadPoolExecutor(threads) as pool:

        def work(own: int) -> list[SampleResult]:
            barrier.wait()
            return [client.sample(ROWS[own % 3], seed=own * each + at) for at in range(each)]

        results = list(pool.map(work, range(threads)))
    with SyncSamplerClient(address, coalesce=False) as client:
        for own in range(threads):
            for at, result in enumerate(results[own]):
                assert told(result) == told(client.sample(ROWS[own % 3], seed=own * each + at))
    assert max(result.timing.batch_rows for own in results for result in own) > 1


# ------------------------------------------------------------------------------------------ faults, on a scripted one


def multi(request: pb.SampleRequest) -> bool:
    return request.tensor.rows > 1


async def test_each_call_is_tried_again_as_the_policy_says(fake: Any) -> None:
    fake.script = [fail(CODE.UNAVAILABLE), fail(CODE.RESOURCE_EXHAUSTED, pushback="1")] * 2
    async with SamplerClient(fake.target, retry=QUICK) as client:
        results = await all_of(*(client.sample(peak(at)) for at in range(30)))
    assert [result.samples[0, 0] for result in results] == [at % 8 for at in range(30)]


async def test_attempts_budget_and_hints_are_those_of_each_call(fake: Any) -> None:
    never = RetryPolicy(max_attempts=1)
    async with SamplerClient(fake.target, retry=never) as client:
        fake.script = [fail(CODE.RESOURCE_EXHAUSTED, pushback="250")] * 2
        lost = await all_of(*(client.sample(peak(at)) for at in range(10)))
        assert [(type(error), error.retry_after_s) for error in lost] == [(OverloadedError, 0.25)] * 10
    few = RetryPolicy(initial_backoff_s=0.0, max_backoff_s=0.0, budget=4.0)
    async with SamplerClient(fake.target, retry=few) as client:
        fake.script = [fail(CODE.UNAVAILABLE)] * 2
        outcomes = await all_of(*(client.sample(peak(at)) for at in range(10)))
        assert sum(isinstance(outcome, UnavailableError) for outcome in outcomes) == 6, "the budget is for four"


async def test_a_server_that_takes_no_rows_in_company(fake: Any) -> None:
    """Whatever a request of many rows meets, its calls are made alone in the end, and nobody is told."""

    async def choosy(request: pb.SampleRequest, context: Any) -> pb.SampleResponse:
        if multi(request):
            await context.abort(random.choice([CODE.INTERNAL, CODE.INVALID_ARGUMENT, CODE.UNIMPLEMENTED]), "no")
        return reply_to(request)

    fake.script = [choosy] * 200
    async with SamplerClient(fake.target) as client:
        results = await all_of(*(client.sample(peak(at)) for at in range(40)))
    assert [result.samples[0, 0] for result in results] == [at % 8 for at in range(40)]


async def test_requests_stay_within_what_the_server_takes(fake: Any) -> None:
    """This server takes 1 MiB, and a full request has two."""
    async with SamplerClient(fake.target) as client:
        for _ in range(3):
            results = await all_of(*(client.sample(peak(at, 4096)) for at in range(300)))
            assert [result.samples[0, 0] for result in results] == list(range(300))
    assert max(request.ByteSize() for request in fake.requests) <= 1 << 20
    assert sum(map(multi, fake.requests)) >= 4, "it learns what is too much, and goes on with less"


async def test_replies_in_any_order(fake: Any) -> None:
    arrived: list[asyncio.Event] = []

    async def backwards(request: pb.SampleRequest, context: Any) -> pb.SampleResponse:
        mine, own = len(arrived), asyncio.Event()
        arrived.append(own)
        if mine == 4:  # the last one goes first
            for event in arrived:
                event.set()
                await asyncio.sleep(0)
        await own.wait()
        return reply_to(request)

    fake.script = [backwards] * 5
    async with SamplerClient(fake.target, coalesce=Coalescing(max_rows=10)) as client:
        results = await all_of(*(client.sample(peak(at)) for at in range(41)))
    assert [result.samples[0, 0] for result in results] == [at % 8 for at in range(41)]


async def test_a_server_that_goes_away(fake: Any) -> None:
    """Its connection breaks under requests of many calls; another one comes up at the same place."""

    async def leave(request: pb.SampleRequest, context: Any) -> pb.SampleResponse:
        if multi(request):
            leaving.set()
        return await hang(request, context)

    first = FakeSampler()
    server, target = await fake_module.start(first)
    leaving = asyncio.Event()
    first.script = [leave] * 2
    patient = RetryPolicy(max_attempts=50, initial_backoff_s=0.02, max_backoff_s=0.1, budget=1e6)
    async with SamplerClient(target, retry=patient) as client:
        calls = asyncio.create_task(all_of(*(client.sample(peak(at)) for at in range(30))))
        await leaving.wait()
        await server.stop(0)
        second = FakeSampler()
        again, _ = await fake_module.start(second, target)
        results = await calls
    assert [getattr(result, "samples", [[result]])[0][0] for result in results] == [at % 8 for at in range(30)]
    await again.stop(0)


async def test_deadlines_against_a_silent_server(fake: Any) -> None:
    fake.script = [hang] * 4
    async with SamplerClient(fake.target, timeout_s=0.1) as client:
        lost = await all_of(*(client.sample(peak(at)) for at in range(20)))
        assert all(isinstance(error, DeadlineError) for error in lost)
        fake.script = [hang, hang]
        patient = [asyncio.create_task(client.sample(peak(at), timeout_s=60.0)) for at in range(5)]
        assert isinstance((await all_of(client.sample(peak(5))))[0], DeadlineError)
        assert not any(task.done() for task in patient), "the others have their own time"
        for task in patient:
            task.cancel()
        assert all(isinstance(error, asyncio.CancelledError) for error in await all_of(*patient))
        fake.script = []
        assert (await client.sample(peak(6))).samples.tolist() == [[6]]


@pytest.mark.parametrize("chance", range(5))
async def test_cancelling_at_any_moment(fake: Any, chance: int) -> None:
    generator = random.Random(chance)

    async def slow(request: pb.SampleRequest, context: Any) -> pb.SampleResponse:
        await asyncio.sleep(generator.choice([0.0, 0.001, 0.005]))
        return reply_to(request)

    fake.script = [slow] * 1000
    async with SamplerClient(fake.target, coalesce=Coalescing(max_rows=7, max_calls=50), timeout_s=20.0) as client:

        async def caller(at: int) -> None:
            for step in range(6):
                call = asyncio.create_task(client.sample(peak(at + step)))
                if generator.random() < 0.4:
                    for _ in range(generator.randrange(6)):
                        await asyncio.sleep(0)
                    if generator.random() < 0.3:
                        await asyncio.sleep(0.002)
                    call.cancel()
                try:
                    assert (await call).samples.tolist() == [[(at + step) % 8]]
                except asyncio.CancelledError:
                    continue

        assert await all_of(*(caller(at) for at in range(100))) == [None] * 100
        assert client._coalescer is not None
        assert client._coalescer.waiting == 0
        assert client._coalescer._places._value == 50
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("samplerd-")]


async def test_closing_the_client(fake: Any) -> None:
    fake.script = [hang] * 10
    client = await SamplerClient(fake.target, coalesce=Coalescing(max_calls=20)).connect()
    calls = [asyncio.create_task(client.sample(peak(at))) for at in range(15)]
    await fake.received.wait()
    calls += [asyncio.create_task(client.sample(peak(at))) for at in range(15)]
    await asyncio.sleep(0)
    await client.aclose()
    assert all(isinstance(error, ConnectionLostError) for error in await all_of(*calls))
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("samplerd-")]
    fake.script = []
    async with client:
        assert (await client.sample(peak(3))).samples.tolist() == [[3]], "it may be opened again"


async def test_without_coalescing_each_call_is_a_request(fake: Any) -> None:
    async with SamplerClient(fake.target, coalesce=False) as client:
        await all_of(*(client.sample(peak(at)) for at in range(10)))
    assert len(fake.requests) == 10


async def test_a_row_of_a_call_that_fails(fake: Any) -> None:
    async with SamplerClient(fake.target) as client:
        outcomes = await all_of(*(client.sample([1.0, math.nan if at == 4 else 0.0]) for at in range(10)))
    assert isinstance(outcomes.pop(4), RowsFailedError)
    assert [outcome.samples.tolist() for outcome in outcomes] == [[[0]]] * 9
