"""Distributions over real sockets: uploaded once, sampled by name as if their rows had been sent."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf import duration_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import NotFoundError, RetryPolicy, SamplerClient, SamplingParams
from samplerd_client.distributions import Distribution
from tests.support.engine import HeldSampler
from tests.support.regions import Region
from tests.support.requests import tensor
from tests.support.served import Served, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODE = grpc.StatusCode
CHUNK = 1000  # --chunk-samples of the daemon
RNG = np.random.default_rng(7)
ROWS = (RNG.normal(size=(3, 700)) * 2).astype(np.float32)


@pytest_asyncio.fixture(loop_scope="session")
async def client(address) -> Any:
    async with SamplerClient(address, timeout_s=120.0, retry=RetryPolicy(max_attempts=1)) as client:
        yield client
        async for own in client.list_distributions():
            with suppress(NotFoundError):
                await client.delete_distribution(own.name)


def new(**fields: Any) -> pb.CreateDistributionRequest:
    return pb.CreateDistributionRequest(**{"tensor": tensor(ROWS), **fields})


async def all_given_back(service: Any, daemon: Any) -> None:
    """Wait until no memory is taken: the device thread lets go of its last batch a moment after it is answered."""
    async with asyncio.timeout(60):
        while daemon.metrics()["samplerd_distribution_bytes"]:
            await service.GetServerInfo(pb.GetServerInfoRequest())
    assert daemon.metrics()["samplerd_distributions"] == 0


def refused(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """The code, and the field that is named."""
    violations = details(status_of(error))["BadRequest"].field_violations
    return error.code(), violations[0].field


# ------------------------------------------------------------------------------------------------------- sampling

FIELDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "temperature": {"temperature": 0.6},
    "greedy": {"temperature": 0.0},
    "filters": {"top_k": 20, "top_p": 0.9},
    "without replacement": {"replacement": False},
    "offset": {"draw_offset": 12345},
    "logprobs": {"logprobs": ("raw", "processed"), "top_n": 3, "rank": True, "kept": True, "entropy": "scaled"},
    "row parameters": {"row_params": [SamplingParams(temperature=t) for t in (0.5, 1.0, 2.0)]},
    "row seeds": {"row_seeds": [3, 2**64 - 1, 3], "seed": None},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.05},
}


@pytest.mark.parametrize("name", FIELDS)
async def test_by_name_is_as_if_the_rows_were_sent(client, name):
    fields = {"seed": 11, "num_samples": 40, **FIELDS[name]}
    await client.create_distribution(ROWS, name="words")
    for options in ({}, {"num_samples": 1}):
        got = await client.sample(distribution="words", **{**fields, **options})
        want = await client.sample(ROWS, **{**fields, **options})
        assert got.samples.tolist() == want.samples.tolist()
        assert got.seed == want.seed
        if "logprobs" in fields:
            assert got.ranks.tolist() == want.ranks.tolist()
            for kind, values in want.logprobs.items():
                assert got.logprobs[kind].tolist() == values.tolist()
                assert got.top_ids[kind].tolist() == want.top_ids[kind].tolist()
    await client.delete_distribution("words")


@pytest.mark.parametrize(
    "own",
    [
        {"temperature": 0.6},
        {"top_k": 20, "top_p": 0.9, "temperature": 1.2},
        {"temperature": 0.0},
        {"logit_bias": {3: 4.0}, "repetition_penalty": 1.3, "history": [1, 2]},
        {"xtc_probability": 0.5, "xtc_threshold": 0.05},
    ],
    ids=str,
)
async def test_fixed_parameters_are_as_if_they_were_sent(client, own):
    params = SamplingParams(**own)
    made = await client.create_distribution(ROWS, params=params)
    for options in ({}, {"replacement": False, "num_samples": 5} if own.get("temperature") != 0.0 else {}):
        fields = {"seed": 11, "num_samples": 40, "logprobs": "processed" if options else (), **options}
        got = await client.sample(distribution=made.name, **fields)
        want = await client.sample(ROWS, params=params, **fields)
        assert got.samples.tolist() == want.samples.tolist()
    await client.delete_distribution(made.name)


async def test_weights_of_any_dtype(client):
    weights = np.exp(ROWS)
    for dtype in ("f16", "bf16", "f32", "f64"):
        await client.create_distribution(weights, name="words", probabilities=True, dtype=dtype)
        got = await client.sample(distribution="words", num_samples=30, seed=5)
        want = await client.sample(weights, num_samples=30, seed=5, probabilities=True, dtype=dtype)
        assert got.samples.tolist() == want.samples.tolist()
        assert (await client.get_distribution("words")).are_probabilities
        await client.delete_distribution("words")


async def test_rows_written_out(service):
    values = pb.Values(row=[pb.Values.Row(values=[0.0, 1.0, 2.0])])
    made = (await service.CreateDistribution(pb.CreateDistributionRequest(values=values))).distribution
    assert (made.rows, made.vocab_size, made.kind) == (1, 3, pb.INPUT_KIND_LOGITS)
    reply = await service.Sample(pb.SampleRequest(distribution=made.name, num_samples=20, seed=1))
    sent = await service.Sample(pb.SampleRequest(values=values, num_samples=20, seed=1))
    assert reply.samples == sent.samples
    await service.DeleteDistribution(pb.DeleteDistributionRequest(name=made.name))


async def test_rows_in_shared_memory_are_copied_once(service):
    with Region(ROWS.tobytes()) as region:
        memory = region.rows(ROWS)
        made = (await service.CreateDistribution(pb.CreateDistributionRequest(shared_memory=memory))).distribution
        bad = region.rows(ROWS, byte_size=5)
        error = await failure(service.CreateDistribution(pb.CreateDistributionRequest(shared_memory=bad)))
        assert refused(error) == (CODE.INVALID_ARGUMENT, "shared_memory.byte_size")
    reply = await service.Sample(pb.SampleRequest(distribution=made.name, num_samples=20, seed=1))
    sent = await service.Sample(pb.SampleRequest(tensor=tensor(ROWS), num_samples=20, seed=1))
    assert reply.samples == sent.samples
    await service.DeleteDistribution(pb.DeleteDistributionRequest(name=made.name))


async def test_an_upload_too_large_for_the_store_is_refused_for_good():
    config = {"distributions": {"max_bytes": 3000}}
    async with Served(HeldSampler(), **config) as served:
        served.sampler.open()
        await served.stub.CreateDistribution(pb.CreateDistributionRequest(name="a", tensor=tensor(ROWS[:1, :500])))
        request = pb.CreateDistributionRequest(name="b", tensor=tensor(ROWS[:1, :500]))
        error = await failure(served.stub.CreateDistribution(request))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        found = details(status_of(error))
        assert found["ErrorInfo"].reason == "DISTRIBUTIONS_FULL"
        assert "RetryInfo" not in found
        await served.stub.DeleteDistribution(pb.DeleteDistributionRequest(name="a"))
        await served.until(lambda: served.app.store.size_bytes == 0)
        await served.stub.CreateDistribution(request)


async def test_a_page_leaves_out_what_another_worker_has_just_deleted(monkeypatch):
    async with Served(HeldSampler()) as served:
        served.sampler.open()
        await served.stub.CreateDistribution(pb.CreateDistributionRequest(name="b", tensor=tensor(ROWS[:1])))
        # As after a deletion between the two looks that a page takes: at the names, and at each distribution.
        monkeypatch.setattr(served.app.store, "names", lambda: ["a", "b", "c"])
        reply = await served.stub.ListDistributions(pb.ListDistributionsRequest(page_size=2))
        assert [each.name for each in reply.distributions] == ["b"]
        rest = await served.stub.ListDistributions(pb.ListDistributionsRequest(page_token=reply.next_page_token))
        assert not rest.distributions


async def test_a_cancelled_upload_leaves_nothing():
    async with Served(HeldSampler()) as served:
        call = served.stub.CreateDistribution(pb.CreateDistributionRequest(name="a", tensor=tensor(ROWS)))
        await served.entered()
        call.cancel()
        served.sampler.open()
        await served.until(lambda: served.app.batcher.in_flight == 0)
        error = await failure(served.stub.GetDistribution(pb.GetDistributionRequest(name="a")))
        assert error.code() is CODE.NOT_FOUND
        assert (served.app.store.count, served.app.store.size_bytes) == (0, 0)


@pytest.mark.parametrize("samples", [CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 1, 400, 334])
@pytest.mark.parametrize("fields", [{}, {"temperature": 0.6}, {"logprobs": ("raw",)}], ids=str)
async def test_a_draw_in_chunks_is_the_draw_in_one(client, samples, fields):
    await client.create_distribution(ROWS, name="words")
    own = {"num_samples": samples, "seed": 3, "distribution": "words", **fields}
    async with client.stream() as stream:
        chunks = [chunk async for chunk in stream.sample_chunks(**own)]
    whole = await client.sample(**own)
    assert all(len(chunk.samples) <= CHUNK for chunk in chunks)
    assert [chunk.is_final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert np.concatenate([chunk.samples for chunk in chunks]).tolist() == whole.samples.ravel().tolist()
    if fields.get("logprobs"):
        values = np.concatenate([chunk.logprobs["raw"] for chunk in chunks])
        assert values.tolist() == whole.logprobs["raw"].ravel().tolist()
    await client.delete_distribution("words")


async def test_a_stream_may_draw_more_than_a_request_holds(client, daemon):
    """So much that it is never in memory at once: a unary call is refused, a stream begins at once."""
    await client.create_distribution(ROWS[:1], name="words")
    many = 1 << 31
    info = await client.server_info()
    assert info.limits.max_samples_per_request < many
    async with connect(daemon.address) as channel:
        service = stub(channel)
        error = await failure(service.Sample(pb.SampleRequest(distribution="words", num_samples=many)))
        assert refused(error) == (CODE.INVALID_ARGUMENT, "num_samples")
        call = service.SampleStream()
        await call.write(pb.SampleRequest(id=1, distribution="words", num_samples=many, seed=5))
        for chunk in range(5):
            reply = await call.read()
            assert (reply.id, reply.chunk, reply.final, len(reply.samples)) == (1, chunk, False, CHUNK)
        # Small requests are answered in between, on this stream and elsewhere.
        await call.write(pb.SampleRequest(id=2, distribution="words", seed=9))
        assert (await client.sample(distribution="words", seed=9)).samples.shape == (1, 1)
        replies = []
        while not replies or replies[-1].id != 2:
            replies.append(await call.read())
        assert replies[-1].final
        call.cancel()
    drawn = daemon.metrics()["samplerd_indexed_samples_total"]
    # Once it is cancelled, nothing more is drawn; what was under way may still be counted.
    for _ in range(3):
        await client.sample(ROWS)
    settled = daemon.metrics()["samplerd_indexed_samples_total"]
    await client.sample(ROWS)
    assert daemon.metrics()["samplerd_indexed_samples_total"] == settled >= drawn
    await client.delete_distribution("words")


async def test_the_client_draws_any_number_in_bounded_memory(client, daemon):
    await client.create_distribution(ROWS, name="words")
    whole = (await client.sample(distribution="words", num_samples=3 * CHUNK, seed=3)).samples.ravel()
    chunks = [chunk async for chunk in client.draw_chunks(distribution="words", num_samples=3 * CHUNK, seed=3)]
    assert np.concatenate([chunk.samples for chunk in chunks]).tolist() == whole.tolist()
    assert [chunk.offset for chunk in chunks] == [CHUNK * at for at in range(9)]
    with pytest.raises(NotFoundError):
        await anext(client.draw_chunks(distribution="verbs"))
    before = daemon.metrics()["samplerd_indexed_samples_total"]
    async with aclosing(client.draw_chunks(distribution="words", num_samples=1 << 30, seed=3)) as endless:
        first = await anext(endless)
        # Whoever does not read is not drawn for: what is under way fills the windows of HTTP/2, and there it ends.
        drawn, again = -1.0, daemon.metrics()["samplerd_indexed_samples_total"]
        async with asyncio.timeout(60):
            while again != drawn:
                for _ in range(20):
                    await client.server_info()
                drawn, again = again, daemon.metrics()["samplerd_indexed_samples_total"]
        assert first.samples.tolist() == whole[:CHUNK].tolist()
        assert CHUNK < drawn - before < 1 << 27
        second = await anext(endless)
        assert second.samples.tolist() == whole[CHUNK : 2 * CHUNK].tolist()


async def test_clients_that_leave_in_the_middle_of_a_chunk_are_no_error(client, daemon):
    """The daemon of these tests fails them all if it logs one."""
    await client.create_distribution(ROWS[:1], name="words")
    for _ in range(20):
        async with connect(daemon.address) as channel:
            call = stub(channel).SampleStream()
            await call.write(pb.SampleRequest(id=1, distribution="words", num_samples=1 << 30))
            assert (await call.read()).chunk == 0
            call.cancel()
    assert (await client.sample(distribution="words")).samples.shape == (1, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"replacement": pb.REPLACEMENT_WITHOUT},
        {"params": pb.SamplingParams(top_k=3)},
        {"outputs": pb.Outputs(kept=True)},
        {"outputs": pb.Outputs(logprobs=[1], top_n=2)},
    ],
    ids=str,
)
async def test_what_cannot_be_drawn_part_by_part_has_the_usual_limit(client, service, fields):
    await client.create_distribution(ROWS[:1], name="words")
    call = service.SampleStream()
    await call.write(pb.SampleRequest(id=1, distribution="words", num_samples=1 << 30, **fields))
    reply = await call.read()
    assert (reply.id, reply.final, reply.error.code) == (1, True, CODE.INVALID_ARGUMENT.value[0])
    assert reply.error.message.startswith("num_samples: ")
    call.cancel()
    await client.delete_distribution("words")


async def test_a_deleted_one_serves_those_that_have_it(client, daemon):
    """A large draw goes on from rows that have no name any more, and gives them back when it ends."""
    await client.create_distribution(ROWS, name="words")
    want = (await client.sample(distribution="words", num_samples=4 * CHUNK, seed=1)).samples.ravel()
    async with connect(daemon.address) as channel:
        call = stub(channel).SampleStream()
        await call.write(pb.SampleRequest(id=1, distribution="words", num_samples=4 * CHUNK, seed=1))
        got = list((await call.read()).samples)
        await client.delete_distribution("words")
        with pytest.raises(NotFoundError):
            await client.sample(distribution="words")
        while len(got) < 12 * CHUNK:
            got += (await call.read()).samples
        assert got == want.tolist()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        await all_given_back(stub(channel), daemon)


# ------------------------------------------------------------------------------------------------------ management


async def test_what_was_made_is_described(client):
    made = await client.create_distribution(ROWS, name="A-z_0.9", ttl_s=60.0, params=SamplingParams(top_k=3))
    assert (made.name, made.rows, made.vocab_size, made.are_probabilities) == ("A-z_0.9", 3, 700, False)
    assert ROWS.nbytes < made.memory_bytes < 2 * ROWS.nbytes
    assert isinstance(made, Distribution)
    assert made.expire_time is not None
    assert 59 < (made.expire_time - made.create_time).total_seconds() < 120
    assert await client.get_distribution("A-z_0.9") == made
    await client.delete_distribution("A-z_0.9")
    for ask in (client.get_distribution, client.delete_distribution):
        with pytest.raises(NotFoundError, match=r"no distribution named A-z_0\.9"):
            await ask("A-z_0.9")


async def test_fixed_parameters_are_told(service):
    params = pb.SamplingParams(top_k=3, temperature=0.5)
    made = (await service.CreateDistribution(new(params=params))).distribution
    assert made.params == params
    plain = (await service.CreateDistribution(new())).distribution
    assert not plain.HasField("params")
    for own in (made, plain):
        await service.DeleteDistribution(pb.DeleteDistributionRequest(name=own.name))


async def test_the_server_chooses_names_that_are_free(client):
    names = {(await client.create_distribution(ROWS[:1])).name for _ in range(5)}
    assert len(names) == 5
    for name in names:
        await client.delete_distribution(name)


async def test_pages_hold_whatever_comes_and_goes(client, service):
    names = [f"n{at:02}" for at in range(7)]
    for name in reversed(names):
        await client.create_distribution(ROWS[:1, :5], name=name)
    first = await service.ListDistributions(pb.ListDistributionsRequest(page_size=3))
    assert [own.name for own in first.distributions] == names[:3]
    await client.delete_distribution(names[2])
    await client.delete_distribution(names[4])
    await client.create_distribution(ROWS[:1, :5], name="n00a")
    second = await service.ListDistributions(pb.ListDistributionsRequest(page_size=3, page_token=first.next_page_token))
    assert [own.name for own in second.distributions] == [names[3], names[5], names[6]]
    assert second.next_page_token == ""
    listed = [own.name async for own in client.list_distributions()]
    assert listed == ["n00", "n00a", "n01", "n03", "n05", "n06"]


async def test_it_is_freed_when_nobody_uses_it(client, service, daemon):
    """By the server's own timer; use keeps it."""
    await client.create_distribution(ROWS, name="words", ttl_s=0.05)
    await all_given_back(service, daemon)
    with pytest.raises(NotFoundError):
        await client.sample(distribution="words")
    assert daemon.metrics()['samplerd_distribution_events_total{event="expired"}'] >= 1


async def test_info_tells_of_it(client):
    info = await client.server_info()
    assert {"CreateDistribution", "GetDistribution", "DeleteDistribution", "ListDistributions"} <= info.capabilities
    assert "SampleRequest.distribution" in info.capabilities


async def test_many_at_once_create_draw_and_delete(client):
    """Whatever order they come in: a draw gives the numbers of some upload of that name, or there is none."""

    async def use(seed: int) -> int:
        rng = np.random.default_rng(seed)
        found = 0
        for _ in range(10):
            name = f"s{rng.integers(3)}"
            rows = np.full((1, 8), -np.inf, np.float32)
            rows[0, int(name[1:])] = 0.0
            with suppress(Exception):
                await client.create_distribution(rows, name=name)
            with suppress(NotFoundError):
                assert set((await client.sample(distribution=name, num_samples=50)).samples.ravel()) == {int(name[1:])}
                found += 1
            with suppress(NotFoundError):
                if rng.integers(2):
                    await client.delete_distribution(name)
        return found

    found = await asyncio.gather(*(use(seed) for seed in range(8)))
    assert sum(found) > 0


# ---------------------------------------------------------------------------------------------------------- errors


def row(*numbers: float) -> pb.Tensor:
    return tensor(np.array([[0.0, 1.0], list(numbers)], np.float32))


BAD = {
    "no rows": (pb.CreateDistributionRequest(), "source", "no rows were sent"),
    "name": (new(name="a b"), "name", "1 to 128"),
    "long name": (new(name="a" * 129), "name", "1 to 128"),
    "kind": (new(kind=7), "kind", "not a known InputKind"),
    "ttl 0": (new(ttl=duration_pb2.Duration()), "ttl", "more than 0"),
    "ttl below 0": (new(ttl=duration_pb2.Duration(seconds=-1)), "ttl", "more than 0"),
    "ttl beyond": (new(ttl=duration_pb2.Duration(seconds=10**10)), "ttl", "at most"),
    "params": (new(params=pb.SamplingParams(temperature=-1)), "params.temperature", "finite"),
    "bytes": (new(tensor=pb.Tensor(vocab_size=3, data=b"1")), "tensor.data", "1 bytes"),
    "nan": (new(tensor=row(1, np.nan)), "tensor.data", "row 1: NaN at id 1"),
    "inf": (new(tensor=row(np.inf, 1)), "tensor.data", "row 1: +inf"),
    "nothing": (new(tensor=row(-np.inf, -np.inf)), "tensor.data", "row 1: the input has no category"),
    "negative": (new(tensor=row(1, -1), kind=pb.INPUT_KIND_PROBABILITIES), "tensor.data", "row 1: negative weight"),
    "masked": (
        new(tensor=row(1, -np.inf), params=pb.SamplingParams(allowed_tokens=[1])),
        "tensor.data",
        "row 1: allowed_tokens, token_bitmask, bad_words and no_repeat_ngram_size together leave no category",
    ),
    "ragged": (
        pb.CreateDistributionRequest(values=pb.Values(row=[pb.Values.Row(values=[1]), pb.Values.Row()])),
        "values.row[1].values",
        "an empty row",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_kept_is_refused(service, daemon, name):
    request, field, message = BAD[name]
    error = await failure(service.CreateDistribution(request))
    assert refused(error) == (CODE.INVALID_ARGUMENT, field)
    assert message in error.details()
    await all_given_back(service, daemon)


async def test_a_taken_name_is_refused(client, service):
    await client.create_distribution(ROWS, name="words")
    error = await failure(service.CreateDistribution(new(name="words")))
    assert (error.code(), error.details()) == (
        CODE.ALREADY_EXISTS,
        "there is a distribution named words already",
    )


SAMPLES = {
    "fixed and params": ({"distribution": "fixed", "params": pb.SamplingParams()}, "params"),
    "fixed and row_params": ({"distribution": "fixed", "row_params": [pb.SamplingParams()] * 3}, "row_params"),
    "other kind": ({"distribution": "words", "kind": pb.INPUT_KIND_PROBABILITIES}, "kind"),
    "bad name": ({"distribution": "a b"}, "distribution"),
    "empty name": ({"distribution": ""}, "distribution"),
    "row_params": ({"distribution": "words", "row_params": [pb.SamplingParams()]}, "row_params"),
    "row_seeds": ({"distribution": "words", "row_seeds": [1]}, "row_seeds"),
    "bias": ({"distribution": "words", "params": pb.SamplingParams(allowed_tokens=[700])}, "params.allowed_tokens[0]"),
    "logprob_ids": (
        {"distribution": "words", "outputs": pb.Outputs(logprobs=[1], logprob_ids=[700])},
        "outputs.logprob_ids[0]",
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_request_that_contradicts_its_distribution_is_refused(client, service, name):
    fields, field = SAMPLES[name]
    await client.create_distribution(ROWS, name="words")
    await client.create_distribution(ROWS, name="fixed", params=SamplingParams(top_k=2))
    assert refused(await failure(service.Sample(pb.SampleRequest(**fields)))) == (CODE.INVALID_ARGUMENT, field)


async def test_the_own_kind_may_be_said(client, service):
    await client.create_distribution(ROWS, name="words")
    request = pb.SampleRequest(distribution="words", kind=pb.INPUT_KIND_LOGITS)
    assert len((await service.Sample(request)).samples) == 3


async def test_an_unknown_name_is_not_found(service):
    error = await failure(service.Sample(pb.SampleRequest(distribution="words")))
    assert error.code() is CODE.NOT_FOUND
    call = service.SampleStream()
    await call.write(pb.SampleRequest(id=4, distribution="words"))
    reply = await call.read()
    assert (reply.id, reply.error.code) == (4, CODE.NOT_FOUND.value[0])
    call.cancel()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListDistributionsRequest(page_size=1001), "page_size"),
        (pb.ListDistributionsRequest(page_token="%"), "page_token"),
        (pb.ListDistributionsRequest(page_token="YSBi"), "page_token"),
        (pb.ListDistributionsRequest(page_token="_w=="), "page_token"),
    ],
    ids=str,
)
async def test_a_bad_page_is_refused(service, request_, field):
    assert refused(await failure(service.ListDistributions(request_))) == (CODE.INVALID_ARGUMENT, field)


@pytest.mark.parametrize("rpc", ["GetDistribution", "DeleteDistribution"])
async def test_a_bad_name_is_refused(service, rpc):
    error = await failure(getattr(service, rpc)(getattr(pb, f"{rpc}Request")(name="../x")))
    assert refused(error) == (CODE.INVALID_ARGUMENT, "name")
