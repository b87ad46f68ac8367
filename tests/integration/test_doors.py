"""Doors before one engine: what any door answers is what one server answers, whatever is asked."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.table import PROCESS, ServerTable, SupervisorTable
from samplerd_server.sampling.kernels.linked import can_link
from tests.integration.test_start import run
from tests.support.daemon import Daemon
from tests.support.doors import DOORS, crowd, door_processes, engine_of
from tests.support.metric_table import types_of
from tests.support.regions import PREFIX, Region
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, failure, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
FLAGS = ("--shared-memory-prefix", PREFIX, "--chunk-samples", "1000")
NUMBERS = np.random.default_rng(7)
ROWS = NUMBERS.normal(0, 3, (5, 1000)).astype(np.float32)
WIDE = NUMBERS.normal(0, 3, (2, 40_000)).astype(np.float32)


@pytest.fixture(scope="module")
def alone():
    """One server, whose answers are the right ones."""
    with Daemon(*FLAGS) as daemon:
        yield daemon


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def doors(request):
    with Daemon(*FLAGS, "--doors", str(DOORS), "--transport", request.param) as daemon:
        yield daemon


def requests() -> list[pb.SampleRequest]:
    """Requests of every source and with parameters and outputs of every kind."""
    everything = pb.Outputs(
        logprobs=[pb.LOGPROB_KIND_RAW, pb.LOGPROB_KIND_PROCESSED],
        top_n=3,
        logprob_ids=[1, 5],
        rank=True,
        entropy=[pb.LOGPROB_KIND_SCALED],
        kept=True,
    )
    history = pb.SamplingParams(repetition_penalty=1.3, history=[1, 2, 3, 3], top_k=40, prompt_length=2)
    biased = pb.SamplingParams(temperature=0.7, logit_bias=[pb.LogitBias(id=3, bias=2.0)], min_p=0.01)
    guided = pb.SampleRequest(tensor=tensor(ROWS), params=pb.SamplingParams(guidance_scale=1.5), seed=9)
    guided.guidance.tensor.CopyFrom(tensor(ROWS[::-1].copy()))
    failing = ROWS.copy()
    failing[2, 7] = np.nan
    candidates = pb.SampleRequest(seed=4, num_samples=9)
    candidates.candidates.vocab_size = 50
    candidates.candidates.row.add(ids=[1, 7, 9], logits=[0.5, 1.5, 1.0])
    top = pb.SamplingParams(temperature=0.9, top_k=50, top_p=0.9)
    return [
        pb.SampleRequest(id=2**64 - 1, tensor=tensor(ROWS), seed=42),
        pb.SampleRequest(id=2, tensor=tensor(ROWS), params=top, num_samples=20, seed=42, outputs=everything),
        pb.SampleRequest(id=3, tensor=tensor(WIDE), params=history, num_samples=3, seed=2**64 - 1),
        pb.SampleRequest(id=4, tensor=tensor(ROWS[:2]), row_params=[history, biased], row_seeds=[5, 2**63]),
        pb.SampleRequest(
            id=5, tensor=tensor(ROWS, "<f2"), num_samples=9, seed=3, replacement=pb.REPLACEMENT_WITHOUT, priority=3
        ),
        pb.SampleRequest(id=6, tensor=tensor(np.exp(ROWS)), kind=pb.INPUT_KIND_PROBABILITIES, seed=8, draw_offset=77),
        pb.SampleRequest(id=7, tensor=tensor(failing), seed=8, outputs=everything),
        pb.SampleRequest(id=8, values=pb.Values(row=[pb.Values.Row(values=[0.1, 0.2, 0.7])]), seed=5, num_samples=50),
        guided,
        candidates,
    ]


def untimed(reply: Any) -> bytes:
    """A reply without how long it took."""
    own = type(reply).FromString(reply.SerializeToString())
    own.ClearField("timing")
    return own.SerializeToString(deterministic=True)


async def test_every_door_answers_what_one_server_answers(alone, doors):
    async with connect(alone.address) as channel, crowd(doors) as clients:
        for request in requests():
            expected = untimed(await stub(channel).Sample(request))
            replies = await clients.all(lambda own, request=request: own.Sample(request))
            assert {untimed(reply) for reply in replies} == {expected}, request.id
        infos = await clients.all(lambda own: own.GetServerInfo(pb.GetServerInfoRequest()))
        assert len({info.SerializeToString(deterministic=True) for info in infos}) == 1
        assert infos[0].capabilities == (await stub(channel).GetServerInfo(pb.GetServerInfoRequest())).capabilities


async def test_streams_answer_each_request_and_the_error_of_one_is_its_own(alone, doors):
    bad = pb.SampleRequest(id=99, tensor=tensor(ROWS), seed=1)
    bad.tensor.data = bad.tensor.data[:-1]

    async def ask(service: Any) -> dict[int, bytes]:
        stream = service.SampleStream(iter([*requests(), bad]))
        return {reply.id: untimed(reply) async for reply in stream if not reply.HasField("error") or reply.id == 99}

    async with connect(alone.address) as channel, crowd(doors) as clients:
        expected = await ask(stub(channel))
        assert len(expected) >= 10
        own_id = re.compile(rb"request_id.*", re.DOTALL)  # each call has another
        for answers in await clients.all(ask):
            assert answers.keys() == expected.keys()
            for number in expected.keys() - {99}:
                assert answers[number] == expected[number], number
            assert b"tensor.data" in own_id.sub(b"", answers[99])


async def test_drafts_are_verified_as_by_one_server(alone, doors):
    draft = pb.VerifyDraftRequest(id=3, target=tensor(ROWS[:3]), draft_ids=[5, 9], seed=11)
    draft.draft.CopyFrom(tensor(np.exp(ROWS[:2])))
    async with connect(alone.address) as channel, crowd(doors) as clients:
        expected = untimed(await stub(channel).VerifyDraft(draft))
        assert {untimed(reply) for reply in await clients.all(lambda own: own.VerifyDraft(draft))} == {expected}


async def test_what_one_door_uploads_all_draw_from(alone, doors):
    """Also while a stream draws from what another door has deleted."""
    uploads = [
        pb.CreateDistributionRequest(name="words", tensor=tensor(ROWS)),
        pb.CreateDistributionRequest(
            name="baked", tensor=tensor(WIDE), params=pb.SamplingParams(top_k=5, temperature=0.7)
        ),
    ]
    asked = [pb.SampleRequest(distribution=own.name, num_samples=3000, seed=3) for own in uploads]

    async def draw(service: Any, request: pb.SampleRequest) -> list[int]:
        return [number async for chunk in service.SampleDistribution(request) for number in chunk.samples]

    async with connect(alone.address) as channel, crowd(doors) as clients:
        one = stub(channel)
        for upload in uploads:
            await one.CreateDistribution(upload)
            await clients.stubs[0].CreateDistribution(upload)
        for request in asked:
            expected = await draw(one, request)
            assert len(expected) >= 6000
            assert set(map(tuple, await clients.all(lambda own, r=request: draw(own, r)))) == {tuple(expected)}
            sampled = {tuple(reply.samples) for reply in await clients.all(lambda own, r=request: own.Sample(r))}
            assert sampled == {tuple(expected)}
        pages = await clients.all(lambda own: own.ListDistributions(pb.ListDistributionsRequest()))
        assert {tuple(own.name for own in page.distributions) for page in pages} == {("baked", "words")}
        call = clients.stubs[0].SampleDistribution(pb.SampleRequest(distribution="words", num_samples=50_000, seed=5))
        drawn = list((await call.read()).samples)
        await clients.stubs[-1].DeleteDistribution(pb.DeleteDistributionRequest(name="words"))
        await clients.stubs[-1].CreateDistribution(pb.CreateDistributionRequest(name="words", tensor=tensor(-ROWS)))
        while (chunk := await call.read()) is not grpc.aio.EOF:
            drawn += chunk.samples
        assert drawn == await draw(one, pb.SampleRequest(distribution="words", num_samples=50_000, seed=5))
        codes = {(await failure(own.CreateDistribution(uploads[1]))).code() for own in clients.stubs}
        assert codes == {CODE.ALREADY_EXISTS}
        for name in ("words", "baked"):
            for own in (one, clients.stubs[0]):
                await own.DeleteDistribution(pb.DeleteDistributionRequest(name=name))
        asked = pb.SampleRequest(distribution="words")
        assert {(await failure(own.Sample(asked))).code() for own in clients.stubs} == {CODE.NOT_FOUND}


async def test_rows_in_shared_memory_are_drawn_from(alone, doors):
    with Region(WIDE.tobytes()) as region:
        memory = pb.SharedMemory(
            key=region.key, byte_size=WIDE.nbytes, dtype=pb.DTYPE_F32, rows=2, vocab_size=WIDE.shape[1]
        )
        request = pb.SampleRequest(shared_memory=memory, seed=6, num_samples=4)
        async with connect(alone.address) as channel, crowd(doors) as clients:
            expected = untimed(await stub(channel).Sample(request))
            assert {untimed(reply) for reply in await clients.all(lambda own: own.Sample(request))} == {expected}
            request.shared_memory.offset = 4
            errors = [await failure(own.Sample(request)) for own in clients.stubs]
            assert {error.code() for error in errors} == {CODE.INVALID_ARGUMENT}


async def test_all_that_was_sent_is_counted_once(doors):
    async with crowd(doors) as clients:
        before = await asyncio.to_thread(doors.metrics)
        for _ in range(5):
            await clients.all(lambda own: own.Sample(pb.SampleRequest(id=1, tensor=tensor([[1.0, 2.0], [3.0, 4.0]]))))
        after = await asyncio.to_thread(doors.metrics)
        grown = {name: after[name] - before.get(name, 0.0) for name in after}
        sent = 5 * len(clients.stubs)
        assert grown['samplerd_requests_total{code="OK",rpc="Sample"}'] == sent
        assert grown['samplerd_rows_total{path="random"}'] == 2 * sent
        assert grown["samplerd_samples_total"] == 2 * sent
        assert grown["samplerd_batch_rows_sum"] == 2 * sent
        assert after["samplerd_in_flight_requests"] == 0
        names = [*map(str, range(DOORS)), "engine"]
        assert [after[f'samplerd_worker_up{{worker="{name}"}}'] for name in names] == [1.0] * len(names)
        assert after["samplerd_queue_limit_rows"] == 16384
        assert sum(name.startswith("samplerd_build_info") for name in after) == 1
    shown = await asyncio.to_thread(doors.metric_types)
    assert shown == types_of(definitions_of(ServerTable), definitions_of(SupervisorTable), PROCESS)


async def test_a_cancelled_call_gives_its_place_back(doors):
    work = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 22, seed=1)
    async with crowd(doors) as clients:
        calls = [own.Sample(work) for own in clients.stubs for _ in range(4)]
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(doors.metrics))["samplerd_in_flight_requests"] == 0:
                pass
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(doors.metrics))["samplerd_in_flight_requests"]:
                pass
        assert (await clients.stubs[0].Sample(pb.SampleRequest(id=5, tensor=tensor([[1.0]])))).id == 5


def maps(pid: int) -> str:
    """What a process has loaded."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def is_heavy(pid: int) -> bool:
    """Whether a process has loaded torch or the compiler."""
    return bool(re.search(r"libtorch|llvmlite|numba", maps(pid)))


async def test_doors_import_neither_torch_nor_the_compiler(doors):
    async with crowd(doors) as clients:  # whatever is imported late is there by now
        await clients.all(lambda own: own.Sample(pb.SampleRequest(tensor=tensor(ROWS), num_samples=9000)))
    assert [is_heavy(pid) for door in door_processes(doors) for pid in door] == [False] * sum(
        map(len, door_processes(doors))
    )
    # The rule can fail: this process has the compiler, once it is imported.
    importlib.import_module("llvmlite.binding")
    assert is_heavy(os.getpid())


async def test_doors_scan_with_the_loops_that_the_engine_has_linked(doors):
    assert [any("/linked-" in maps(pid) for pid in door) for door in door_processes(doors)] == [can_link()] * DOORS


async def test_doors_and_their_engine_let_others_finish_their_turn(doors):
    own = [engine_of(doors), *(pid for door in door_processes(doors) for pid in door)]
    assert {os.sched_getscheduler(pid) for pid in own} == {os.SCHED_BATCH}


async def test_an_engine_that_cannot_start_is_an_error_with_the_cause():
    code, text = await asyncio.to_thread(run, "--doors=2", "--device=cuda:99", "--kernel=torch")
    assert code == 2
    assert "samplerd: the engine cannot start: device cuda:99 is not there" in text
