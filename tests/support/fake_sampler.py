"""A samplerd that does as a test tells it: it answers every draw with the argmax, unless its script says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc

Context = Any
Step = Callable[[pb.SampleRequest, Context], Awaitable[pb.SampleResponse]]
StreamStep = Callable[[AsyncIterator[pb.SampleRequest], Context], AsyncIterator[pb.SampleResponse]]

DTYPES = {pb.DTYPE_UNSPECIFIED: "<f4", pb.DTYPE_F32: "<f4", pb.DTYPE_F16: "<f2", pb.DTYPE_F64: "<f8"}


def rows_of(request: pb.SampleRequest) -> np.ndarray:
    """Decode the rows that a request carries."""
    source = request.WhichOneof("source")
    if source == "tensor":
        tensor = request.tensor
        shape = (max(1, tensor.rows), tensor.vocab_size)
        if tensor.dtype == pb.DTYPE_BF16:
            bits = np.frombuffer(tensor.data, dtype="<u2").astype(np.uint32) << 16
            return bits.view(np.float32).reshape(shape)
        return np.frombuffer(tensor.data, dtype=DTYPES[tensor.dtype]).reshape(shape).astype(np.float64)
    if source == "values":
        return np.array([row.values for row in request.values.row])
    rows = np.full((len(request.candidates.row), request.candidates.vocab_size), -np.inf)
    for index, row in enumerate(request.candidates.row):
        rows[index, list(row.ids)] = row.logits
    return rows


def reply_to(request: pb.SampleRequest) -> pb.SampleResponse:
    """Answer a request: the argmax of each row, S times; a row with a NaN fails."""
    rows, width = rows_of(request), max(1, request.num_samples)
    bad = np.isnan(rows).any(axis=1)
    ids = np.where(bad, -1, np.nan_to_num(rows, nan=0.0, neginf=-1e30).argmax(axis=1))
    samples = np.repeat(ids, width).astype("<i4")
    reply = pb.SampleResponse(id=request.id, seed=request.seed, rng="philox4x32-10/2", final=True)
    if request.outputs.raw_samples:
        reply.raw_samples = samples.tobytes()
    else:
        reply.samples.extend(samples.tolist())
    for kind in request.outputs.logprobs:
        logprobs = np.where(samples < 0, np.nan, -0.5 * kind).astype("<f4")
        entry = reply.logprobs.add(kind=kind, raw_samples=logprobs.tobytes())
        entry.top_ids.extend(np.tile(np.arange(request.outputs.top_n), len(rows)).tolist())
        entry.top.extend([-1.0] * (request.outputs.top_n * len(rows)))
        entry.named.extend([-2.0] * (len(request.outputs.logprob_ids) * len(rows)))
    for kind in request.outputs.entropy:
        reply.entropies.add(kind=kind, nats=[float(kind)] * len(rows))
    if request.outputs.rank:
        reply.ranks.extend([1] * len(samples))
    if request.outputs.kept:
        reply.kept_count.extend([rows.shape[1]] * len(rows))
        reply.kept_mass.extend([1.0] * len(rows))
    if request.outputs.adaptive_state:
        reply.adaptive_weighted_sum.extend((samples / 4).tolist())
        reply.adaptive_total_weight.extend([1.5] * len(samples))
    for row in np.flatnonzero(bad):
        reply.row_errors.add(row=int(row), code=3, reason=pb.ROW_ERROR_REASON_NAN, message="the row holds a NaN")
    reply.timing.queue.FromMicroseconds(250)
    reply.timing.compute.FromMicroseconds(1500)
    reply.timing.batch_rows = len(rows)
    return reply


def verdict_of(request: pb.VerifyDraftRequest) -> pb.VerifyDraftResponse:
    """Answer a draft: every token is accepted, and the argmax of the last row follows."""
    rows = rows_of(pb.SampleRequest(tensor=request.target))
    reply = pb.VerifyDraftResponse(id=request.id, seed=request.seed, rng="philox4x32-10/2")
    reply.samples.extend([*request.draft_ids, int(rows[-1].argmax())])
    reply.accepted = len(request.draft_ids)
    reply.path.extend(range(reply.accepted))
    return reply


def chunks_of(request: pb.SampleRequest, size: int) -> list[pb.SampleResponse]:
    """Answer a request in chunks of so many samples."""
    whole = reply_to(request)
    samples = np.frombuffer(whole.raw_samples, dtype="<i4")
    starts = range(0, len(samples), size)
    chunks = []
    for index, start in enumerate(starts):
        part = pb.SampleResponse(id=request.id, seed=whole.seed, rng=whole.rng, chunk=index)
        part.raw_samples = samples[start : start + size].tobytes()
        for entry in whole.logprobs:
            part.logprobs.add(kind=entry.kind, raw_samples=entry.raw_samples[4 * start : 4 * (start + size)])
        part.ranks.extend(whole.ranks[start : start + size])
        part.adaptive_weighted_sum.extend(whole.adaptive_weighted_sum[start : start + size])
        part.adaptive_total_weight.extend(whole.adaptive_total_weight[start : start + size])
        if index == 0:
            part.row_errors.extend(whole.row_errors)
        chunks.append(part)
    chunks[-1].final = True
    chunks[-1].timing.CopyFrom(whole.timing)
    return chunks


def status_with(code: grpc.StatusCode, message: str, *details: Any) -> status_pb2.Status:
    """Build a status with details."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def violation(field: str, description: str = "wrong", reason: str = "") -> error_details_pb2.BadRequest:
    """Build a BadRequest of one violation."""
    entry = error_details_pb2.BadRequest.FieldViolation(field=field, description=description, reason=reason)
    return error_details_pb2.BadRequest(field_violations=[entry])


def fail(
    code: grpc.StatusCode, message: str = "scripted", *, pushback: str | None = None, details: tuple[Any, ...] = ()
) -> Step:
    """Build a step that fails the call."""

    async def step(request: pb.SampleRequest, context: Context) -> pb.SampleResponse:
        trailers: list[tuple[str, str | bytes]] = []
        if pushback is not None:
            trailers.append(("grpc-retry-pushback-ms", pushback))
        if details:
            trailers.append(("grpc-status-details-bin", status_with(code, message, *details).SerializeToString()))
        await context.abort(code, message, tuple(trailers))
        raise AssertionError("abort returned")

    return step


async def hang(request: pb.SampleRequest, context: Context) -> pb.SampleResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


class FakeSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Takes one step of its script for each unary call, and answers properly when there is none left."""

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.stream_step: StreamStep | None = None
        self.requests: list[pb.SampleRequest] = []
        self.drafts: list[pb.VerifyDraftRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.health = health.aio.HealthServicer()
        self.received = asyncio.Event()

    async def Sample(self, request: pb.SampleRequest, context: Context) -> pb.SampleResponse:  # noqa: N802
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.received.set()
        step = self.script.pop(0) if self.script else None
        return reply_to(request) if step is None else await step(request, context)

    async def SampleStream(  # noqa: N802
        self, requests: AsyncIterator[pb.SampleRequest], context: Context
    ) -> AsyncIterator[pb.SampleResponse]:
        if self.stream_step is not None:
            async for reply in self.stream_step(self._counted(requests), context):
                yield reply
            return
        async for request in self._counted(requests):
            yield reply_to(request)

    async def _counted(self, requests: AsyncIterator[pb.SampleRequest]) -> AsyncIterator[pb.SampleRequest]:
        async for request in requests:
            self.requests.append(request)
            self.received.set()
            yield request

    async def VerifyDraft(self, request: pb.VerifyDraftRequest, context: Context) -> pb.VerifyDraftResponse:  # noqa: N802
        self.drafts.append(request)
        step: Any = self.script.pop(0) if self.script else None
        return verdict_of(request) if step is None else await step(request, context)

    async def VerifyDraftStream(  # noqa: N802
        self, requests: AsyncIterator[pb.VerifyDraftRequest], context: Context
    ) -> AsyncIterator[pb.VerifyDraftResponse]:
        async for request in requests:
            self.drafts.append(request)
            step: Any = self.script.pop(0) if self.script else None
            yield verdict_of(request) if step is None else await step(request, context)

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:  # noqa: N802
        reply = pb.GetServerInfoResponse(
            version="9.9.9",
            device="cpu",
            capabilities=["Sample", "VerifyDraft", "VerifyDraftRequest.parents"],
            threads=3,
        )
        reply.limits.max_vocab_size = 1000
        reply.start_time.FromSeconds(1_700_000_000)
        return reply


async def start(fake: FakeSampler, address: str = "127.0.0.1:0", credentials: Any = None) -> tuple[Any, str]:
    """Serve the fake; returns the server and the target it listens on."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 1 << 20)])
    sampler_pb2_grpc.add_SamplerServiceServicer_to_server(fake, server)
    health_pb2_grpc.add_HealthServicer_to_server(fake.health, server)
    await fake.health.set("", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    await server.start()
    return server, address if address.startswith("unix:") else f"127.0.0.1:{port}"
