"""samplerd.v1.SamplerService: the handlers, from bytes to bytes.

They are generic handlers without serializers of grpcio's: the bytes are decoded and encoded here, where the errors can
name a field.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.core.errors import Code, InvalidRequestError, OverloadedError, UnavailableError
from samplerd_server.transport.codec.decode_draft import DraftDecoder
from samplerd_server.transport.codec.encode import encode, encode_verdict
from samplerd_server.transport.codec.status import check_any_row_drawn
from samplerd_server.transport.rpc.large_draws import LargeDraws
from samplerd_server.transport.rpc.messages import DraftMessages, SampleMessages
from samplerd_server.transport.rpc.stream import Messages, Request, Result, Stream

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable

    from grpc.aio import ServicerContext

    from samplerd_server.batching.admission import Admission
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.config import ServerConfig
    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.rpc.distributions import DistributionService
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["SERVICE_NAME", "SamplerService"]

SERVICE_NAME = "samplerd.v1.SamplerService"


class SamplerService:
    """Answers the RPCs of the contract."""

    NAME = SERVICE_NAME

    def __init__(
        self,
        config: ServerConfig,
        *,
        decoder: Decoder,
        admission: Admission,
        batcher: Batcher,
        distributions: DistributionService,
        calls: RpcObserver,
        metrics: Metrics,
        info: pb.GetServerInfoResponse,
        loop: AbstractEventLoop,
    ) -> None:
        self._config = config
        self.decoder = replace(decoder, named=distributions.named(decoder, config.limits.max_samples))
        self._stream_decoder = replace(decoder, named=distributions.named(decoder, config.limits.max_stream_samples))
        self._admission = admission
        self._batcher = batcher
        self._distributions = distributions
        self._calls = calls
        self._metrics = metrics
        self._info = info.SerializeToString()
        self._loop = loop
        self._large_draws = LargeDraws(self._submit_part, config.limits.chunk_samples)
        self._drafts = DraftDecoder(samples=decoder)
        self._streams: set[Stream[Any, Any]] = set()

    @property
    def is_open(self) -> bool:
        """Whether it takes new requests: it does until it drains."""
        return self._admission.is_open

    def handlers(self) -> grpc.GenericRpcHandler:
        """Give the handlers as grpcio wants them."""
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Sample": grpc.unary_unary_rpc_method_handler(self.sample),
            "SampleStream": grpc.stream_stream_rpc_method_handler(self.sample_stream),
            "GetServerInfo": grpc.unary_unary_rpc_method_handler(self.get_server_info),
            "VerifyDraft": grpc.unary_unary_rpc_method_handler(self.verify_draft),
            "VerifyDraftStream": grpc.stream_stream_rpc_method_handler(self.verify_draft_stream),
        }
        methods.update(self._distributions.handlers(self.submit))
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def sample(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        """Answer Sample."""
        began = time.monotonic()
        self._calls.begin("Sample")
        try:
            request = self.decoder.decode_bytes(data)
            remaining = context.time_remaining()
            deadline = NO_DEADLINE if remaining is None else began + remaining
            result = await self.submit(request, began, deadline, context.peer())
            if result.row_errors:
                check_any_row_drawn(request, result)
            reply = encode(request, result)
        except BaseException as error:
            await self._calls.fail("Sample", context, began, error)
            raise
        self._calls.end("Sample", Code.OK, time.monotonic() - began)
        return reply

    async def verify_draft(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        """Answer VerifyDraft."""
        began = time.monotonic()
        reply = b""
        async with self._calls.handle("VerifyDraft", context, began):
            request = self._drafts.decode(self._drafts.parse(data))
            remaining = context.time_remaining()
            deadline = NO_DEADLINE if remaining is None else began + remaining
            reply = encode_verdict(request, await self.submit_draft(request, began, deadline, context.peer()))
        return reply  # noqa: RET504  # as above

    def submit(self, request: SampleRequest, arrival: float, deadline: float, connection: str) -> Future[SampleResult]:
        """Admit a request and queue it; the future resolves to its result. Cancel it when nobody waits any more.

        Raises:
            SamplerdError: it was not admitted, or its rows could not be brought in.

        """
        reply: Future[SampleResult] = self._loop.create_future()
        ticket = Ticket(request, arrival, deadline, connection, reply)
        self._admit(ticket)
        if request.load is not None:
            request.load()
        self._batcher.enqueue(ticket)
        return reply

    def submit_draft(
        self, request: VerifyRequest, arrival: float, deadline: float, connection: str
    ) -> Future[VerifyResult]:
        """Admit a draft and queue it, as `submit` does with a request.

        Raises:
            SamplerdError: it was not admitted.

        """
        reply: Future[VerifyResult] = self._loop.create_future()
        ticket = Ticket(request, arrival, deadline, connection, reply)
        self._admit(ticket)
        self._batcher.enqueue(ticket)
        return reply

    def _admit(self, ticket: Ticket) -> None:
        try:
            self._admission.check(ticket, time.monotonic())
        except OverloadedError as error:
            self._metrics.shed.add(1, error.reason)
            raise
        except UnavailableError:
            self._metrics.shed.add(1, "draining")
            raise

    async def sample_stream(self, _requests: object, context: ServicerContext[bytes, bytes]) -> None:
        """Answer SampleStream."""
        began = time.monotonic()
        chunk_samples = self._config.limits.chunk_samples
        messages = SampleMessages(decoder=self._stream_decoder, chunk_samples=chunk_samples)

        def submit(request: SampleRequest, arrival: float, deadline: float, connection: str) -> Future[Any]:
            if request.is_divisible and request.samples > chunk_samples:
                draw = self._large_draws.run(request, stream.put, deadline, connection)
                return self._loop.create_task(draw, name="samplerd-large-draw")
            return self.submit(request, arrival, deadline, connection)

        stream = self._new_stream(messages, submit, context)
        await self._run_stream(stream, messages.rpc, context, began)

    async def verify_draft_stream(self, _requests: object, context: ServicerContext[bytes, bytes]) -> None:
        """Answer VerifyDraftStream."""
        began = time.monotonic()
        messages = DraftMessages(decoder=self._drafts)
        await self.serve_stream(messages, self.submit_draft, context, began)

    async def serve_stream(
        self,
        messages: Messages[Request, Result],
        submit: Callable[[Request, float, float, str], Future[Result]],
        context: ServicerContext[bytes, bytes],
        began: float,
    ) -> None:
        """Serve a streaming call of another protocol: how its messages are read and written is the caller's."""
        await self._run_stream(self._new_stream(messages, submit, context), messages.rpc, context, began)

    def _new_stream(
        self,
        messages: Messages[Request, Result],
        submit: Callable[[Request, float, float, str], Future[Result]],
        context: ServicerContext[bytes, bytes],
    ) -> Stream[Request, Result]:
        return Stream(
            context,
            messages=messages,
            submit=submit,
            metrics=self._metrics,
            limit=self._config.transport.max_stream_requests,
        )

    async def _run_stream(
        self, stream: Stream[Any, Any], rpc: str, context: ServicerContext[bytes, bytes], began: float
    ) -> None:
        async with self._calls.handle(rpc, context, began):
            self._streams.add(stream)
            try:
                await stream.run()
            finally:
                self._streams.discard(stream)

    def _submit_part(
        self, part: SampleRequest, deadline: float, connection: str, *, is_first: bool
    ) -> Future[SampleResult]:
        """Queue a part of a request; the request is admitted with its first part."""
        reply: Future[SampleResult] = self._loop.create_future()
        ticket = Ticket(part, time.monotonic(), deadline, connection, reply)
        if is_first:
            self._admit(ticket)
        self._batcher.enqueue(ticket)
        return reply

    def drain(self) -> None:
        """Refuse new requests, and end every stream once what it has in flight is answered."""
        self._admission.close()
        for stream in self._streams:
            stream.drain()

    async def get_server_info(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        """Answer GetServerInfo."""
        async with self._calls.handle("GetServerInfo", context, time.monotonic()):
            try:
                pb.GetServerInfoRequest.FromString(data)
            except Exception as error:
                raise InvalidRequestError("request", "not a GetServerInfoRequest") from error
        return self._info
