"""The served path over real sockets, TCP and Unix: everyone gets their own rows, and every figure adds up."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.request import RNG
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.table import PROCESS, ServerTable
from samplerd_server.sampling.choose import choose_sampler
from tests.integration.conftest import MAX_MESSAGE_BYTES
from tests.support.daemon import KERNEL, Daemon
from tests.support.engine import HeldSampler
from tests.support.malformed import MALFORMED, good, malformed
from tests.support.metric_table import types_of
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
SAMPLE = "/samplerd.v1.SamplerService/Sample"


# 200 clients at once.


def bf16(rows: np.ndarray) -> pb.Tensor:
    data = (rows.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return pb.Tensor(dtype=pb.DTYPE_BF16, rows=rows.shape[0], vocab_size=rows.shape[1], data=data)


def mixed(rng: random.Random, number: int) -> tuple[pb.SampleRequest, list[int]]:
    """A request of any shape, and the only answer it can have."""
    rows, vocab_size, draws = rng.randint(1, 4), rng.randint(2, 700), rng.randint(1, 3)
    ids = [rng.randrange(vocab_size) for _ in range(rows)]
    numbers = one_hot(rows, vocab_size, ids)
    request = pb.SampleRequest(id=number, num_samples=draws)
    form = rng.randrange(6)
    if form == 5:
        request.kind = pb.INPUT_KIND_PROBABILITIES
        numbers = np.exp(numbers)
    if form == 0:
        request.values.row.extend(pb.Values.Row(values=row) for row in numbers.tolist())
    elif form == 1:
        request.tensor.CopyFrom(bf16(numbers))
    else:
        request.tensor.CopyFrom(tensor(numbers, rng.choice(["<f4", "<f2", "<f8"])))
    temperature = rng.choice([0.0, 1e-3, 0.7, 1.0, 50.0])
    if rng.random() < 0.3:
        request.row_params.extend(pb.SamplingParams(temperature=rng.choice([0.0, temperature])) for _ in range(rows))
    else:
        request.params.temperature = temperature
    if rng.random() < 0.3:
        request.seed = rng.getrandbits(64)
    elif rng.random() < 0.3:
        request.row_seeds.extend(rng.getrandbits(64) for _ in range(rows))
    if draws == 1 and rng.random() < 0.3:
        request.replacement = pb.REPLACEMENT_WITHOUT
    if rng.random() < 0.3:
        request.outputs.raw_samples = True
    if rng.random() < 0.3:
        request.outputs.logprobs.append(pb.LOGPROB_KIND_SCALED)
    request.priority = rng.randint(-100, 100)
    return request, [token for token in ids for _ in range(draws)]


def check(request: pb.SampleRequest, expected: list[int], reply: pb.SampleResponse) -> None:
    assert reply.id == request.id
    got = np.frombuffer(reply.raw_samples, "<i4").tolist() if request.outputs.raw_samples else list(reply.samples)
    assert got == expected
    assert not reply.row_errors
    assert reply.final
    if request.HasField("seed"):
        assert reply.seed == request.seed


async def unary_client(service, requests) -> None:
    for request, expected in requests:
        check(request, expected, await service.Sample(request, timeout=WAIT_S))


async def stream_client(service, requests) -> None:
    expected = {request.id: (request, ids) for request, ids in requests}
    stream = service.SampleStream(timeout=WAIT_S)
    for request, _ in requests:
        await stream.write(request)
    await stream.done_writing()
    async for reply in stream:
        check(*expected.pop(reply.id), reply)
    assert not expected
    assert await stream.code() is CODE.OK


async def test_200_clients_of_mixed_requests_get_their_own_replies(daemon):
    rng = random.Random(20240)
    work = [[mixed(rng, client * 1000 + n) for n in range(10)] for client in range(200)]
    channels = [connect((daemon.address, daemon.unix_address)[client % 2]) for client in range(200)]
    before = await asyncio.to_thread(daemon.metrics)
    clients = [
        (unary_client if client % 4 < 2 else stream_client)(stub(channel), work[client])
        for client, channel in enumerate(channels)
    ]
    await asyncio.wait_for(asyncio.gather(*clients), 2 * WAIT_S)
    await asyncio.gather(*(channel.close() for channel in channels))
    after = await asyncio.to_thread(daemon.metrics)
    rows = sum(len(expected) // request.num_samples for own in work for request, expected in own)
    assert after["samplerd_batch_rows_sum"] - before["samplerd_batch_rows_sum"] == rows
    batches = after["samplerd_batch_rows_count"] - before["samplerd_batch_rows_count"]
    assert batches < 2000, "no two requests ever shared a batch"


# What a reply says.


async def test_the_worked_example(service):
    request = pb.SampleRequest(tensor=tensor([[1.0, 2.0, 0.5, 1.5]]), params=pb.SamplingParams(temperature=0.0))
    assert list((await service.Sample(request)).samples) == [1]
    request.params.temperature = 0.7
    request.num_samples = 20_000
    request.seed = 1
    samples = np.array((await service.Sample(request)).samples)
    assert np.bincount(samples) / 20_000 == pytest.approx([0.1298, 0.5416, 0.0635, 0.2651], abs=0.015)


def noisy(rows: int = 1, vocab_size: int = 1000, **fields) -> pb.SampleRequest:
    numbers = np.random.default_rng(5).normal(0, 2, (rows, vocab_size))
    return pb.SampleRequest(tensor=tensor(numbers), **fields)


async def test_a_seed_is_echoed_and_repeats_the_draw(service):
    for seed in (0, 1, 2**64 - 1):
        replies = [await service.Sample(noisy(2, num_samples=50, seed=seed)) for _ in range(2)]
        assert replies[0].seed == replies[1].seed == seed
        assert replies[0].samples == replies[1].samples
        assert replies[0].rng == RNG


async def test_an_unseeded_draw_can_be_replayed_with_the_seed_that_the_reply_says(service):
    first, second = [await service.Sample(noisy(2, num_samples=50)) for _ in range(2)]
    assert first.seed != second.seed
    assert first.samples != second.samples
    again = await service.Sample(noisy(2, num_samples=50, seed=first.seed))
    assert again.samples == first.samples


async def test_draws_can_be_continued(service):
    whole = list((await service.Sample(noisy(num_samples=10, seed=3))).samples)
    parts = [(await service.Sample(noisy(num_samples=5, seed=3, draw_offset=offset))).samples for offset in (0, 5)]
    assert [*parts[0], *parts[1]] == whole
    last = await service.Sample(noisy(num_samples=1, seed=3, draw_offset=2**64 - 1))
    assert len(last.samples) == 1


async def test_with_row_seeds_a_row_draws_the_same_whichever_request_carries_it(service):
    numbers = np.random.default_rng(5).normal(0, 2, (3, 1000))
    together = await service.Sample(pb.SampleRequest(tensor=tensor(numbers), num_samples=20, row_seeds=[11, 12, 11]))
    assert together.seed == 0
    for row, seed in ((0, 11), (1, 12), (2, 11)):
        alone = await service.Sample(pb.SampleRequest(tensor=tensor(numbers[row]), num_samples=20, row_seeds=[seed]))
        assert list(alone.samples) == list(together.samples[row * 20 : row * 20 + 20])


async def test_without_replacement_nothing_comes_twice(service):
    reply = await service.Sample(noisy(vocab_size=40, num_samples=40, replacement=pb.REPLACEMENT_WITHOUT))
    assert sorted(reply.samples) == list(range(40))


def bare(reply: pb.SampleResponse) -> bytes:
    """The reply without what tells of the weather."""
    reply.ClearField("timing")
    return reply.SerializeToString(deterministic=True)


def seeded() -> pb.SampleRequest:
    """Three rows that must always draw the same."""
    subject = noisy(3, num_samples=7, seed=99)
    subject.row_params.extend(pb.SamplingParams(temperature=t) for t in (0.0, 0.5, 2.0))
    subject.outputs.logprobs.extend([pb.LOGPROB_KIND_RAW, pb.LOGPROB_KIND_SCALED])
    return subject


def company(rng: random.Random) -> list[pb.SampleRequest]:
    """A hundred neighbours of all kinds, one of them bad."""
    return [*(mixed(rng, number)[0] for number in range(99)), pb.SampleRequest(tensor=tensor([[np.nan, 0.0]]))]


async def test_neighbours_change_nothing(service):
    alone = bare(await service.Sample(seeded()))
    rng = random.Random(7)
    for _ in range(5):
        neighbours = company(rng)
        at = rng.randint(0, 100)
        calls = [service.Sample(request) for request in neighbours[:at]]
        call = service.Sample(seeded())
        calls += [service.Sample(request) for request in neighbours[at:]]
        assert bare(await call) == alone
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_batch_of_a_hundred_neighbours_changes_nothing():
    sampler = choose_sampler("cpu", KERNEL)
    sampler.warm_up()
    held = HeldSampler(sampler.sample)
    async with Served(held, batching={"max_rows": 1 << 16}) as served:
        held.open()
        alone = bare(await served.stub.Sample(seeded()))
        held.hold()
        rng = random.Random(7)
        # The first is at the device; all others, the subject among them, are closed as the batch behind it.
        first = served.stub.Sample(noisy(4096, 2))
        await served.entered()
        await served.entered()
        neighbours = company(rng)
        calls = [served.stub.Sample(request) for request in neighbours[:37]]
        call = served.stub.Sample(seeded())
        calls += [served.stub.Sample(request) for request in neighbours[37:]]
        await served.until(lambda: served.app.batcher.in_flight == 102)
        held.open()
        reply = await call
        assert reply.timing.batch_rows > 150
        assert bare(reply) == alone
        await asyncio.gather(first, *calls, return_exceptions=True)
    sampler.close()


async def test_a_bad_row_fails_alone(service):
    numbers = one_hot(4, 8, [1, 2, 3, 4])
    numbers[1, 5] = np.nan
    numbers[2, :] = -np.inf
    request = pb.SampleRequest(tensor=tensor(numbers), num_samples=2, seed=1)
    request.outputs.logprobs.append(pb.LOGPROB_KIND_RAW)
    reply = await service.Sample(request)
    assert list(reply.samples) == [1, 1, -1, -1, -1, -1, 4, 4]
    assert [(error.row, error.code, error.reason, error.message) for error in reply.row_errors] == [
        (1, 3, pb.ROW_ERROR_REASON_NAN, "NaN at id 5"),
        (2, 3, pb.ROW_ERROR_REASON_NOTHING_TO_DRAW, "the input has no category with positive probability"),
    ]
    assert list(np.isnan(reply.logprobs[0].samples)) == [False, False, True, True, True, True, False, False]


async def test_a_request_of_bad_rows_only_fails_as_a_whole(service):
    request = pb.SampleRequest(tensor=tensor([[np.nan], [np.inf]]), num_samples=1)
    error = await failure(service.Sample(request))
    assert error.code() is CODE.INVALID_ARGUMENT
    told = details(status_of(error))
    assert told["ErrorInfo"].reason == "ALL_ROWS_FAILED"
    assert [(v.field, v.reason) for v in told["BadRequest"].field_violations] == [
        ("row[0]", "NAN"),
        ("row[1]", "POSITIVE_INFINITY"),
    ]


async def test_timing_is_plausible(service):
    timing = (await service.Sample(noisy())).timing
    assert timing.batch_rows >= 1
    assert 0 < timing.compute.nanos < 10**9
    assert timing.queue.seconds == 0


# Streams.


async def test_a_large_draw_comes_in_chunks(service):
    stream = service.SampleStream()
    await stream.write(noisy(2, num_samples=1250, seed=4, id=5))
    await stream.write(noisy(id=6))
    await stream.done_writing()
    replies = [reply async for reply in stream]
    chunks = [reply for reply in replies if reply.id == 5]
    assert [(len(reply.samples), reply.chunk, reply.final) for reply in chunks] == [
        (1000, 0, False),
        (1000, 1, False),
        (500, 2, True),
    ]
    assert all(reply.seed == 4 for reply in chunks)
    whole = await service.Sample(noisy(2, num_samples=1250, seed=4))
    assert [token for reply in chunks for token in reply.samples] == list(whole.samples)
    assert [reply.final for reply in replies if reply.id == 6] == [True]


async def test_on_a_stream_a_failing_request_fails_alone(service):
    stream = service.SampleStream()
    for number in range(9):
        request = good() if number % 3 else malformed("one byte short")[0]
        request.id = number
        await stream.write(request)
    bad_row = pb.SampleRequest(id=9, tensor=tensor([[np.nan]]))
    await stream.write(bad_row)
    await stream.done_writing()
    replies = {reply.id: reply async for reply in stream}
    assert sorted(replies) == list(range(10))
    for number in range(9):
        assert replies[number].error.code == (0 if number % 3 else 3)
        assert replies[number].final
    assert details(replies[0].error)["BadRequest"].field_violations[0].field == "tensor.data"
    # A row that fails is told in the row's own error, on a stream even if it is the only one.
    assert not replies[9].HasField("error")
    assert [error.row for error in replies[9].row_errors] == [0]
    assert await stream.code() is CODE.OK


async def test_requests_of_a_stream_that_come_together_are_answered_as_each_alone(service, daemon):
    rng = np.random.default_rng(5)
    requests = {}
    for number in range(200):
        rows = rng.normal(0, 3, (1, 300))
        if number % 23 == 7:
            rows[0, 9] = np.nan
        request = pb.SampleRequest(id=number, seed=int(rng.integers(1 << 63)), tensor=tensor(rows), num_samples=2)
        request.params.temperature = 0.0 if number // 40 == 2 else 0.8
        requests[number] = request if number % 31 else malformed("one byte short")[0]
        requests[number].id = number
    failing = [number for number in requests if number % 31 == 0]
    nan = [number for number in requests if number % 23 == 7 and number not in failing]
    alone = {}
    for number, request in requests.items():
        if number not in failing + nan:
            alone[number] = list((await service.Sample(request)).samples)
    before = await asyncio.to_thread(daemon.metrics)
    stream = service.SampleStream(iter(requests.values()), timeout=WAIT_S)
    replies = {reply.id: reply async for reply in stream}
    assert sorted(replies) == sorted(requests)
    assert [number for number, reply in replies.items() if reply.error.code] == failing
    for number in nan:
        (error,) = replies[number].row_errors
        assert (error.row, error.reason, error.message) == (0, pb.ROW_ERROR_REASON_NAN, "NaN at id 9")
        assert list(replies[number].samples) == [-1, -1]
    for number, samples in alone.items():
        assert (list(replies[number].samples), replies[number].seed) == (samples, requests[number].seed)
    after = await asyncio.to_thread(daemon.metrics)
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    drawn = len(requests) - len(failing)
    assert grown['samplerd_requests_total{code="OK",rpc="SampleStream"}'] == drawn
    assert grown['samplerd_requests_total{code="INVALID_ARGUMENT",rpc="SampleStream"}'] == len(failing)
    assert grown['samplerd_request_seconds_count{rpc="SampleStream"}'] == len(requests)
    assert grown["samplerd_queue_wait_seconds_count"] == drawn == grown["samplerd_batch_rows_sum"]
    assert grown['samplerd_source_rows_total{source="logits"}'] == drawn
    assert after["samplerd_in_flight_requests"] == 0


async def test_bytes_that_are_no_request_fail_alone_on_a_stream(address):
    async with connect(address) as channel:
        stream = channel.stream_stream("/samplerd.v1.SamplerService/SampleStream")()
        await stream.write(b"\xff")
        reply = pb.SampleResponse.FromString(await stream.read())
        assert (reply.id, reply.error.code) == (0, 3)
        await stream.write(good().SerializeToString())
        assert pb.SampleResponse.FromString(await stream.read()).id == 7
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


# What is refused.


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_names_its_field_over_the_wire(name, service):
    message, path = malformed(name)
    error = await failure(service.Sample(message))
    assert error.code() is CODE.INVALID_ARGUMENT
    told = details(status_of(error))
    (violation,) = told["BadRequest"].field_violations
    assert violation.field == path
    assert error.details() == f"{path}: {violation.description}"
    assert (told["ErrorInfo"].reason, told["ErrorInfo"].domain) == ("INVALID_REQUEST", "samplerd.v1")


async def test_bytes_that_are_no_request_are_refused(address):
    async with connect(address) as channel:
        error = await failure(channel.unary_unary(SAMPLE)(b"\xff\xff"))
        assert (error.code(), error.details()) == (CODE.INVALID_ARGUMENT, "request: not a SampleRequest")
        error = await failure(channel.unary_unary("/samplerd.v1.SamplerService/GetServerInfo")(b"\xff"))
        assert error.code() is CODE.INVALID_ARGUMENT


DISTRIBUTION_RPCS = ("CreateDistribution", "GetDistribution", "DeleteDistribution", "ListDistributions")


@pytest.mark.parametrize("rpc", DISTRIBUTION_RPCS)
async def test_bytes_that_are_no_request_about_distributions_are_refused(rpc, address):
    async with connect(address) as channel:
        error = await failure(channel.unary_unary(f"/samplerd.v1.SamplerService/{rpc}")(b"\xff\xff"))
        assert (error.code(), error.details()) == (CODE.INVALID_ARGUMENT, f"request: not a {rpc}Request")


async def test_an_rpc_that_does_not_exist_is_unimplemented_and_counted(address, daemon):
    series = 'samplerd_other_calls_total{kind="unknown"}'
    before = await asyncio.to_thread(daemon.metrics)
    async with connect(address) as channel:
        error = await failure(channel.unary_unary("/samplerd.v1.SamplerService/Guess")(b""))
        assert error.code() is CODE.UNIMPLEMENTED
    assert (await asyncio.to_thread(daemon.metrics))[series] == before[series] + 1


async def test_a_message_beyond_the_limit_is_refused(service):
    below = pb.SampleRequest(tensor=tensor(np.zeros((1, MAX_MESSAGE_BYTES // 4 - 100), np.float32)))
    assert len((await service.Sample(below)).samples) == 1
    above = pb.SampleRequest(tensor=tensor(np.zeros((1, MAX_MESSAGE_BYTES // 4), np.float32)))
    error = await failure(service.Sample(above))
    assert error.code() is CODE.RESOURCE_EXHAUSTED
    stream = service.SampleStream()
    with suppress(grpc.aio.AioRpcError):  # the answer may come before the end of the question
        await stream.write(above)
    assert await asyncio.wait_for(stream.code(), WAIT_S) is CODE.RESOURCE_EXHAUSTED
    # The connection still serves.
    assert len((await service.Sample(good())).samples) == 2


# Health, information, reflection.


async def test_health(address):
    async with connect(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "samplerd.v1.SamplerService"):
            request = health_pb2.HealthCheckRequest(service=name)
            assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            watching = health.Watch(request)
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
            watching.cancel()
        error = await failure(health.Check(health_pb2.HealthCheckRequest(service="other")))
        assert error.code() is CODE.NOT_FOUND


async def test_server_info(service, daemon):
    info = await service.GetServerInfo(pb.GetServerInfoRequest())
    assert (info.device, info.rng) == ("cpu", RNG)
    assert info.limits.max_message_bytes == MAX_MESSAGE_BYTES
    assert (info.limits.chunk_samples, info.limits.max_rows_per_request) == (1000, 4096)
    assert {"Sample", "SampleStream", "GetServerInfo"} <= set(info.capabilities)
    assert info.version
    assert info.start_time.seconds > 0
    assert info.threads >= 1


async def services_by_reflection(address: str) -> set[str]:
    async with connect(address) as channel:
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        reply = await asyncio.wait_for(stream.read(), WAIT_S)
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        return {entry.name for entry in reply.list_services_response.service}


async def test_reflection_is_off_unless_asked_for(daemon):
    async with connect(daemon.address) as channel:
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        assert (await failure(stream.read())).code() is CODE.UNIMPLEMENTED
    asking = Daemon("--reflection", "--transport", daemon.transport)
    await asyncio.to_thread(asking.__enter__)
    assert await services_by_reflection(asking.address) == {
        "samplerd.v1.SamplerService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    await asyncio.to_thread(asking.__exit__)


# Metrics.


async def test_figures_after_a_known_load_add_up(service, daemon):
    before = await asyncio.to_thread(daemon.metrics)
    calls = [service.Sample(noisy(3, 100, num_samples=4)) for _ in range(20)]
    greedy = noisy(2, 50, num_samples=5)
    greedy.row_params.extend([pb.SamplingParams(temperature=0.0), pb.SamplingParams()])
    calls += [service.Sample(greedy) for _ in range(10)]
    calls += [service.Sample(pb.SampleRequest(tensor=tensor([[np.nan, 0], [0, 1], [-np.inf] * 2]))) for _ in range(5)]
    await asyncio.gather(*calls)
    for _ in range(3):
        await failure(service.Sample(malformed("no source")[0]))
    await failure(service.Sample(pb.SampleRequest(tensor=tensor([[np.nan]]))))
    stream = service.SampleStream()
    for number in range(8):
        await stream.write(noisy(1, 10, id=number) if number % 4 else pb.SampleRequest())
    await stream.done_writing()
    assert len([reply async for reply in stream]) == 8
    after = await asyncio.to_thread(daemon.metrics)

    def grown(series: str) -> float:
        return after[series] - before.get(series, 0.0)

    rows = 20 * 3 + 10 * 2 + 5 * 3 + 1 + 6
    assert grown('samplerd_requests_total{code="OK",rpc="Sample"}') == 35
    assert grown('samplerd_requests_total{code="INVALID_ARGUMENT",rpc="Sample"}') == 4
    assert grown('samplerd_requests_total{code="OK",rpc="SampleStream"}') == 6
    assert grown('samplerd_requests_total{code="INVALID_ARGUMENT",rpc="SampleStream"}') == 2
    assert grown('samplerd_rows_total{path="greedy"}') == 10
    assert grown('samplerd_rows_total{path="random"}') == rows - 10
    assert grown("samplerd_samples_total") == 20 * 12 + 10 * 10 + 5 * 3 + 1 + 6
    assert grown("samplerd_input_bytes_total") == 4 * (20 * 300 + 10 * 100 + 5 * 6 + 1 + 60)
    assert grown('samplerd_row_errors_total{reason="nan"}') == 6
    assert grown('samplerd_row_errors_total{reason="nothing_to_draw"}') == 5
    assert grown("samplerd_batch_rows_sum") == rows
    reasons = ("full", "idle", "delay", "deadline")
    batches = sum(grown(f'samplerd_batches_total{{reason="{reason}"}}') for reason in reasons)
    assert grown("samplerd_batch_rows_count") == batches == grown("samplerd_compute_seconds_count")
    assert grown('samplerd_batch_rows_bucket{le="+Inf"}') == batches
    assert grown("samplerd_queue_wait_seconds_count") == 35 + 1 + 6
    assert grown('samplerd_request_seconds_count{rpc="Sample"}') == 39
    assert grown('samplerd_request_seconds_count{rpc="SampleStream"}') == 8
    labels = 'grpc_method="Sample",grpc_service="samplerd.v1.SamplerService",grpc_type="unary"'
    assert grown(f"grpc_server_started_total{{{labels}}}") == 39
    assert grown(f'grpc_server_handled_total{{grpc_code="OK",{labels}}}') == 35
    assert grown(f'grpc_server_handled_total{{grpc_code="InvalidArgument",{labels}}}') == 4
    assert grown("samplerd_transport_wait_seconds_count") == 39 + 1
    for gauge in ("samplerd_queue_rows", "samplerd_queue_bytes", "samplerd_in_flight_requests"):
        assert after[gauge] == 0
    for stage in ("queued", "computed", "expired"):
        assert grown(f'samplerd_cancelled_total{{stage="{stage}"}}') == 0
    assert grown("samplerd_expired_total") == 0


async def test_a_scrape_shows_exactly_the_table_of_metrics(daemon):
    shown = await asyncio.to_thread(daemon.metric_types)
    assert shown == types_of(definitions_of(ServerTable), PROCESS)
