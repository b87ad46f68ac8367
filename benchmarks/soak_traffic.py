"""The traffic of a soak: calls of every kind, each with the answer that the reference gives, and who makes them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.soak_web import WEB_KINDS, LostError, WebCaller
from samplerd.oip import grpc_service_pb2 as oip
from samplerd.oip import grpc_service_pb2_grpc as oip_grpc
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from samplerd_server.config import LimitsConfig
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.sampling.reference import pipeline as reference
from samplerd_server.sampling.reference.verify import verify
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

__all__ = ["CHUNK_SAMPLES", "NAMES", "Cases", "Soak", "make_cases", "traffic", "upload"]

CHUNK_SAMPLES = 1000
"""Samples in a chunk: small, so that a draw of a few thousand has several."""
_VOCABULARY = 300
_CASES = 96
_DRAFTS = 32
_DISTRIBUTIONS = 4
_CALLERS = 12
_STREAM_REQUESTS = 16
_TIMEOUT_S = 30.0
_CUT = "Internal error from Core"
"""What grpcio's client says when it writes to a stream whose connection has just gone."""
_DRAINING = "draining"
"""What a worker says to a request of a stream that comes when it ends."""
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Seeded requests with what the reference answers."""

    samples: Sequence[tuple[pb.SampleRequest, list[int]]]
    drafts: Sequence[tuple[pb.VerifyDraftRequest, tuple[list[int], list[int]]]]
    """Each with its tokens, and the path of the accepted ones."""
    inference: Sequence[tuple[oip.ModelInferRequest, list[int]]]
    distributions: Sequence[tuple[pb.CreateDistributionRequest, pb.SampleRequest, list[int]]]
    """Uploads with a draw of several chunks from each."""


@dataclass(slots=True)
class Soak:
    """What one phase has seen."""

    seed: int
    loses_calls: bool
    """Whether workers are killed, so that calls may end as UNAVAILABLE or CANCELLED."""
    cases: Cases
    counts: Counter[str] = field(default_factory=Counter)
    """Calls by kind, and calls that were lost to a kill."""
    faults: list[str] = field(default_factory=list)
    """What was wrong: the first few."""

    def fail(self, text: str) -> None:
        """Note a fault."""
        self.counts["faults"] += 1
        if len(self.faults) < 10:  # enough to find out
            self.faults.append(text)

    def hold(self, what: str, got: object, expected: object) -> None:
        """Compare an answer."""
        self.counts["checked"] += 1
        if got != expected:
            self.fail(f"{what}: {str(got)[:300]} instead of {str(expected)[:300]}")


def _tensor(rows: Any) -> pb.Tensor:
    array = np.ascontiguousarray(rows, "<f4")
    return pb.Tensor(dtype=pb.DTYPE_F32, rows=array.shape[0], vocab_size=array.shape[1], data=array.tobytes())


def make_cases(seed: int) -> Cases:
    """Make requests of many kinds, each with what the reference answers."""
    random = np.random.default_rng(seed)
    decoder = Decoder(limits=LimitsConfig(), capabilities=capabilities())
    return Cases(
        samples=[_sample_case(random, decoder, number) for number in range(_CASES)],
        drafts=[_draft_case(random, decoder, number) for number in range(_DRAFTS)],
        inference=[_inference_case(random, decoder, number) for number in range(_DRAFTS)],
        distributions=[_distribution_case(random, decoder, seed, number) for number in range(_DISTRIBUTIONS)],
    )


def _expected(decoder: Decoder, request: pb.SampleRequest) -> list[int]:
    drawn = reference.sample(decoder.decode_bytes(request.SerializeToString()))
    return [sampled for row in drawn for sampled in row.samples]


def _set_params(random: np.random.Generator, params: pb.SamplingParams, number: int) -> None:
    params.temperature = float(random.choice([0.0, 0.5, 1.0, 1.5]))
    name, value = [("top_k", 20), ("top_p", 0.8), ("min_p", 0.05), ("typical_p", 0.9)][number % 4]
    setattr(params, name, value)


def _sample_case(random: np.random.Generator, decoder: Decoder, number: int) -> tuple[pb.SampleRequest, list[int]]:
    rows = int(random.integers(1, 4))
    request = pb.SampleRequest(
        tensor=_tensor(random.normal(0, 3, (rows, _VOCABULARY))), num_samples=int(random.integers(1, 5)), seed=number
    )
    _set_params(random, request.params, number)
    return request, _expected(decoder, request)


def _draft_case(
    random: np.random.Generator, decoder: Decoder, number: int
) -> tuple[pb.VerifyDraftRequest, tuple[list[int], list[int]]]:
    """Make a chain or a tree whose draft comes from rows near those of the target, so that some tokens are accepted."""
    tokens = int(random.integers(1, 6))
    target = random.normal(0, 2, (tokens + 1, _VOCABULARY))
    draft = np.exp(target[:tokens] + random.normal(0, 0.5, (tokens, _VOCABULARY)))
    ids = [int(random.choice(_VOCABULARY, p=row / row.sum())) for row in draft]
    request = pb.VerifyDraftRequest(draft_ids=ids, target=_tensor(target), seed=number)
    if number % 4 == 0:  # greedy drafts of a tree, all of whose tokens follow the sequence or the one before
        request.parents.extend(int(random.integers(-1, at)) if at else -1 for at in range(tokens))
    else:
        request.draft.CopyFrom(_tensor(draft))
    _set_params(random, request.params, number)
    own = DraftDecoder(samples=decoder).decode_bytes(request.SerializeToString())
    verdict = verify(own.target, own.draft_ids.tolist(), own.parents.tolist(), own.draft)
    return request, (list(verdict.samples), list(verdict.path))


def _inference_case(
    random: np.random.Generator, decoder: Decoder, number: int
) -> tuple[oip.ModelInferRequest, list[int]]:
    rows = int(random.integers(1, 4))
    native = pb.SampleRequest(tensor=_tensor(random.normal(0, 3, (rows, _VOCABULARY))), num_samples=2, seed=number)
    native.params.top_p, native.params.temperature = 0.9, 0.8
    request = oip.ModelInferRequest(model_name="sampler")
    logits = request.inputs.add(name="logits", datatype="FP32", shape=[rows, _VOCABULARY])
    assert logits is not None, "protobuf adds what it is told to"
    request.raw_input_contents.append(native.tensor.data)
    for name, value in (("seed", number), ("num_samples", 2)):
        request.parameters[name].int64_param = value
    for name, real in (("top_p", 0.9), ("temperature", 0.8)):
        request.parameters[name].double_param = real
    return request, _expected(decoder, native)


def _distribution_case(
    random: np.random.Generator, decoder: Decoder, seed: int, number: int
) -> tuple[pb.CreateDistributionRequest, pb.SampleRequest, list[int]]:
    rows = _tensor(random.normal(0, 3, (1 + number % 2, _VOCABULARY)))
    upload = pb.CreateDistributionRequest(name=f"soak-{seed}-{number}", tensor=rows)
    native = pb.SampleRequest(tensor=rows, num_samples=2 * CHUNK_SAMPLES + 10 * number, seed=number)
    if number >= _DISTRIBUTIONS // 2:
        upload.params.top_k = native.params.top_k = 50
    draw = pb.SampleRequest(distribution=upload.name, num_samples=native.num_samples, seed=number)
    return upload, draw, _expected(decoder, native)


async def upload(cases: Cases, address: str) -> None:
    """Upload the distributions that stay for the whole phase."""
    async with grpc.aio.insecure_channel(address, options=_OWN_CONNECTION) as channel:
        service = sampler_pb2_grpc.SamplerServiceStub(channel)
        for request, _, _ in cases.distributions:
            await service.CreateDistribution(request, timeout=_TIMEOUT_S)


class _Caller:
    """One caller: its connection, its random numbers, and the calls that it makes."""

    def __init__(self, soak: Soak, channel: grpc.aio.Channel, random: Random, address: str, web: str) -> None:
        self.soak = soak
        self.random = random
        self.channel = channel
        self.address = address
        self.service: Any = sampler_pb2_grpc.SamplerServiceStub(channel)
        self.inference: Any = oip_grpc.GRPCInferenceServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.web = WebCaller(soak, random, web)

    async def sample(self) -> None:
        """Make a unary draw."""
        request, expected = self.random.choice(self.soak.cases.samples)
        reply = await self.service.Sample(request, timeout=_TIMEOUT_S)
        self.soak.hold(f"Sample with seed {request.seed}", list(reply.samples), expected)

    async def stream(self) -> None:
        """Draw for several requests, and once from a distribution in chunks, over one stream."""
        call = self.service.SampleStream(timeout=_TIMEOUT_S)
        asked: dict[int, list[int]] = {}
        for number in range(1, _STREAM_REQUESTS + 1):
            request, expected = self.random.choice(self.soak.cases.samples)
            if number == _STREAM_REQUESTS:
                _, request, expected = self.random.choice(self.soak.cases.distributions)
            await call.write(_numbered(request, number))
            asked[number] = expected
        await call.done_writing()
        got: dict[int, list[int]] = {number: [] for number in asked}
        async for reply in call:
            _check(reply.error.message)
            got[reply.id] += reply.samples
        self.soak.hold("SampleStream", got, asked)

    async def large_draw(self) -> None:
        """Draw from a distribution by SampleDistribution."""
        _, request, expected = self.random.choice(self.soak.cases.distributions)
        replies = [reply async for reply in self.service.SampleDistribution(request, timeout=_TIMEOUT_S)]
        got = [sampled for reply in replies for sampled in reply.samples]
        self.soak.hold(f"SampleDistribution from {request.distribution}", got, expected)
        self.soak.hold("chunks", [reply.chunk for reply in replies], list(range(len(replies))))

    async def distribution(self) -> None:
        """Upload, draw, describe, list and delete."""
        upload, draw, expected = self.random.choice(self.soak.cases.distributions)
        name = f"soak-{self.random.getrandbits(60)}"
        own = pb.CreateDistributionRequest()
        own.CopyFrom(upload)
        own.name = name
        await self.service.CreateDistribution(own, timeout=_TIMEOUT_S)
        few = pb.SampleRequest(distribution=name, num_samples=9, seed=draw.seed)
        reply = await self.service.Sample(few, timeout=_TIMEOUT_S)
        self.soak.hold("draws from a new distribution", list(reply.samples)[:9], expected[:9])
        described = await self.service.GetDistribution(pb.GetDistributionRequest(name=name), timeout=_TIMEOUT_S)
        self.soak.hold("rows of a distribution", described.distribution.rows, own.tensor.rows)
        await self.service.ListDistributions(pb.ListDistributionsRequest(page_size=5), timeout=_TIMEOUT_S)
        await self.service.DeleteDistribution(pb.DeleteDistributionRequest(name=name), timeout=_TIMEOUT_S)

    async def draft(self) -> None:
        """Verify a draft."""
        request, expected = self.random.choice(self.soak.cases.drafts)
        reply = await self.service.VerifyDraft(request, timeout=_TIMEOUT_S)
        self.soak.hold(f"draft {request.seed}", (list(reply.samples), list(reply.path)), expected)

    async def draft_stream(self) -> None:
        """Verify several drafts over one stream."""
        call = self.service.VerifyDraftStream(timeout=_TIMEOUT_S)
        asked = {}
        for number in range(1, _STREAM_REQUESTS + 1):
            request, asked[number] = self.random.choice(self.soak.cases.drafts)
            await call.write(_numbered(request, number))
        await call.done_writing()
        got = {}
        async for reply in call:
            _check(reply.error.message)
            got[reply.id] = (list(reply.samples), list(reply.path))
        self.soak.hold("VerifyDraftStream", got, asked)

    async def infer(self) -> None:
        """Draw by the Open Inference Protocol."""
        request, expected = self.random.choice(self.soak.cases.inference)
        reply = await self.inference.ModelInfer(request, timeout=_TIMEOUT_S)
        got = np.frombuffer(reply.raw_output_contents[0], "<i4").tolist()
        self.soak.hold("ModelInfer", got, expected)
        await self.inference.ModelReady(oip.ModelReadyRequest(name="sampler"), timeout=_TIMEOUT_S)

    async def infer_stream(self) -> None:
        """Draw by a stream of the Open Inference Protocol."""
        cases = {str(at): self.random.choice(self.soak.cases.inference) for at in range(4)}

        async def requests() -> Any:
            for at, (request, _) in cases.items():
                own = oip.ModelInferRequest()
                own.CopyFrom(request)
                own.id = at
                yield own

        got = {}
        async for reply in self.inference.ModelStreamInfer(requests(), timeout=_TIMEOUT_S):
            _check(reply.error_message)
            response = reply.infer_response
            got[response.id] = np.frombuffer(response.raw_output_contents[0], "<i4").tolist()
        self.soak.hold("ModelStreamInfer", got, {at: expected for at, (_, expected) in cases.items()})

    async def info(self) -> None:
        """Ask what the server is."""
        await self.service.GetServerInfo(pb.GetServerInfoRequest(), timeout=_TIMEOUT_S)

    async def probe(self) -> None:
        """Ask for the health, and watch it for a moment."""
        asked = health_pb2.HealthCheckRequest(service=self.random.choice(["", "samplerd.v1.SamplerService"]))
        serving = health_pb2.HealthCheckResponse.SERVING
        reply = await self.health.Check(asked, timeout=_TIMEOUT_S)
        watching = self.health.Watch(asked, timeout=_TIMEOUT_S)
        first = await watching.read()
        watching.cancel()
        if not self.soak.loses_calls and first is not grpc.aio.EOF:  # a worker that ends is not serving
            self.soak.hold("health", (reply.status, first.status), (serving, serving))

    async def bad(self) -> None:
        """Make a call that must fail, and see that it fails as it should."""
        code = grpc.StatusCode
        short = pb.Tensor(dtype=pb.DTYPE_F32, rows=1, vocab_size=9, data=self.random.randbytes(7))
        unknown: Any = self.channel.unary_unary("/samplerd.v1.SamplerService/Unknown")
        calls: tuple[tuple[Callable[[], Any], grpc.StatusCode], ...] = (
            (lambda: self.service.Sample(pb.SampleRequest(tensor=short)), code.INVALID_ARGUMENT),
            (lambda: self.service.Sample(pb.SampleRequest(distribution="none")), code.NOT_FOUND),
            (lambda: _all(self.service.SampleDistribution(pb.SampleRequest(tensor=short))), code.INVALID_ARGUMENT),
            (lambda: _all(self.service.SampleDistribution(pb.SampleRequest(distribution="none"))), code.NOT_FOUND),
            (lambda: self.service.VerifyDraft(pb.VerifyDraftRequest(target=short)), code.INVALID_ARGUMENT),
            (lambda: self.inference.ModelInfer(oip.ModelInferRequest(model_name="x" * 500)), code.NOT_FOUND),
            (lambda: unknown(b""), code.UNIMPLEMENTED),
        )
        call, expected = self.random.choice(calls)
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not expected:
                raise
        else:
            self.soak.fail("a bad request was answered")

    async def cancel(self) -> None:
        """Cancel a call at some moment."""
        cases, pause_s = self.soak.cases, self.random.random() * 4e-3
        call: Any
        match self.random.randrange(4):
            case 0:
                call = self.service.Sample(self.random.choice(cases.samples)[0], timeout=_TIMEOUT_S)
            case 1:
                call = self.service.VerifyDraft(self.random.choice(cases.drafts)[0], timeout=_TIMEOUT_S)
            case 2:
                call = self.service.SampleStream(timeout=_TIMEOUT_S)
                for number in range(3):
                    await call.write(_numbered(self.random.choice(cases.samples)[0], number))
            case _:
                endless = pb.SampleRequest(distribution=self.random.choice(cases.distributions)[0].name)
                endless.num_samples = 1 << 30
                call = self.service.SampleDistribution(endless, timeout=_TIMEOUT_S)
                for _ in range(self.random.randrange(4)):
                    await call.read()
        await asyncio.sleep(pause_s)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call.code()

    async def late(self) -> None:
        """Give a call too little time."""
        request = pb.SampleRequest(distribution=self.random.choice(self.soak.cases.distributions)[0].name)
        request.num_samples = 1 << 30
        try:
            await _all(self.service.SampleDistribution(request, timeout=self.random.random() * 20e-3))
        except grpc.aio.AioRpcError as error:
            # Or it is refused at once: admission predicts that it would be late.
            if error.code() not in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}:
                raise
        else:
            self.soak.fail("a draw of 2^30 samples took no time")

    async def reconnect(self) -> None:
        """Draw on a connection of its own."""
        async with grpc.aio.insecure_channel(self.address, options=_OWN_CONNECTION) as channel:
            await _Caller(self.soak, channel, self.random, self.address, self.address).sample()


def _numbered(request: Any, number: int) -> Any:
    own = type(request)()
    own.CopyFrom(request)
    own.id = number
    return own


class _RefusedError(Exception):
    """A request of a stream was answered with an error."""


def _check(message: str) -> None:
    if message:
        raise _RefusedError(message)


async def _all(call: Any) -> None:
    async for _ in call:
        pass


KINDS: tuple[tuple[int, Callable[[_Caller], Coroutine[Any, Any, None]]], ...] = (
    (48, _Caller.sample),
    (8, _Caller.stream),
    (4, _Caller.large_draw),
    (3, _Caller.distribution),
    (6, _Caller.draft),
    (3, _Caller.draft_stream),
    (6, _Caller.infer),
    (2, _Caller.infer_stream),
    (2, _Caller.info),
    (3, _Caller.probe),
    (6, _Caller.bad),
    (6, _Caller.cancel),
    (1, _Caller.late),
    (4, _Caller.reconnect),
)
"""The kinds of traffic, and how often each comes in about 100 times."""
NAMES = tuple(kind.__name__ for _, kind in (*KINDS, *WEB_KINDS))
"""What all kinds are counted as."""


async def traffic(soak: Soak, port: int, web_port: int, seconds: float) -> None:
    """Make calls of all kinds for so many seconds, by several callers at a time.

    Args:
        soak: what is seen.
        port: of 127.0.0.1, where gRPC is served.
        web_port: where HTTP/1.1 is served; with envoy the same.
        seconds: for how long.

    """
    end = time.monotonic() + seconds
    address, web = f"127.0.0.1:{port}", f"127.0.0.1:{web_port}"
    await asyncio.gather(*(_call(soak, address, web, number, end) for number in range(_CALLERS)))


async def _call(soak: Soak, address: str, web: str, number: int, end: float) -> None:
    """Be one caller until `end`."""
    random = Random(soak.seed * 1000 + number)  # noqa: S311  # which traffic, not a secret
    async with grpc.aio.insecure_channel(address, options=_OWN_CONNECTION) as channel:
        caller = _Caller(soak, channel, random, address, web)
        kinds = [(weight, kind.__name__, partial(kind, caller)) for weight, kind in KINDS]
        kinds += [(weight, kind.__name__, partial(kind, caller.web)) for weight, kind in WEB_KINDS]
        weights = [weight for weight, _, _ in kinds]
        while time.monotonic() < end:
            [(_, name, call)] = random.choices(kinds, weights)
            try:
                await call()
                soak.counts[name] += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, it is a fault of the soak or of the server
                if soak.loses_calls and _is_lost(error):
                    soak.counts["lost"] += 1
                    await asyncio.sleep(0.05)
                else:
                    soak.fail(f"{name}: {_described(error)}")
        caller.web.close()


def _is_lost(error: Exception) -> bool:
    """Whether a call ended because its worker did."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() in _LOST or error.details() == _CUT
    return isinstance(error, asyncio.InvalidStateError | OSError | EOFError | LostError) or (
        isinstance(error, _RefusedError) and _DRAINING in str(error)
    )


def _described(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return repr(error)
