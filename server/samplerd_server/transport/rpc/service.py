"""samplerd.v1.SamplerService: drawing samples, verifying drafts, and saying what the server is.

The RPCs about distributions are in `distributions`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.rows import StoredRows
from samplerd_server.transport.codec.decode_draft import DraftDecoder
from samplerd_server.transport.codec.encode import encode, encode_verdict, is_long
from samplerd_server.transport.codec.status import check_any_row_drawn
from samplerd_server.transport.rpc.contract import SAMPLER
from samplerd_server.transport.rpc.joins import SampleJoins
from samplerd_server.transport.rpc.large_draws import LargeDraws
from samplerd_server.transport.rpc.messages import DraftMessages, SampleMessages, encode_later
from samplerd_server.transport.rpc.reply_bytes import COPIES

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import AsyncGenerator

    from samplerd_server.batching.ticket import Reply
    from samplerd_server.config.workload import LimitsConfig
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.distributions import DistributionService
    from samplerd_server.transport.rpc.streams import Streams
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["SamplerService"]


class SamplerService:
    """Answers the RPCs of the contract that draw."""

    def __init__(
        self,
        limits: LimitsConfig,
        *,
        decoder: Decoder,
        submitter: Submitter,
        streams: Streams,
        distributions: DistributionService,
        info: pb.GetServerInfoResponse,
        loop: AbstractEventLoop,
        most_joint_rows: int = 0,
    ) -> None:
        """Take what it needs; `most_joint_rows`: requests of a stream that may become one; 0 = each stays alone."""
        self.decoder = replace(decoder, by_distribution=distributions.request_decoder(decoder, limits.max_samples))
        self._stream_decoder = replace(
            decoder, by_distribution=distributions.request_decoder(decoder, limits.max_stream_samples)
        )
        self._draft_decoder = DraftDecoder(samples=decoder)
        self._submitter = submitter
        self._joins = SampleJoins(self._stream_decoder, submitter, most_joint_rows) if most_joint_rows > 1 else None
        self._streams = streams
        self._chunk_samples = limits.chunk_samples
        self._large_draws = LargeDraws(submitter.submit_part, limits.chunk_samples)
        self._info = info
        self._loop = loop

    @SAMPLER.unary_bytes("Sample", pb.SampleRequest, pb.SampleResponse)
    async def sample(self, data: bytes, call: Call) -> bytes:
        """Draw from the rows of one request."""
        request = self.decoder.decode_bytes(data)
        result = await self._submitter.submit(request, call.arrival, call.deadline, call.connection)
        if result.row_errors:
            check_any_row_drawn(request, result)
        if is_long(result):
            return await self._loop.run_in_executor(None, encode, request, result)
        return encode(request, result)

    @SAMPLER.bidi_stream("SampleStream", pb.SampleRequest, pb.SampleResponse)
    async def sample_stream(self, call: Call) -> None:
        """Draw for each request of a stream; a large draw from a distribution is sent while it is drawn."""
        messages = SampleMessages(decoder=self._stream_decoder, chunk_samples=self._chunk_samples)

        def submit(
            reply: Reply, request: SampleRequest, arrival: float, deadline: float, connection: str
        ) -> Future[Any] | None:
            if request.is_divisible and request.samples > self._chunk_samples:
                draw = self._large_draws.run(request, stream.put, deadline, connection)
                return self._loop.create_task(draw, name="samplerd-large-draw")
            self._submitter.submit_to(reply, request, arrival, deadline, connection)
            return None

        stream = self._streams.new(messages, submit, call, self._joins)
        await self._streams.run(stream)

    @SAMPLER.server_stream("SampleDistribution", pb.SampleRequest, pb.SampleResponse)
    async def sample_distribution(self, data: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """Draw any number of samples from a distribution; each chunk is drawn once the one before it was written."""
        request = self._stream_decoder.decode_bytes(data)
        if not isinstance(request.source, StoredRows):
            raise InvalidRequestError("distribution", "is missing: name an uploaded distribution; Sample takes rows")
        deadline, connection, hold = call.deadline, call.connection, self._streams.replies.hold
        if request.is_divisible:
            async for chunk in self._large_draws.chunks(request, deadline, connection):
                with hold(connection, COPIES * len(chunk)):
                    yield chunk
            return
        result = await self._submitter.submit(request, call.arrival, deadline, connection)
        if result.row_errors:
            check_any_row_drawn(request, result)
        messages, size, writing = encode_later(request, result, self._chunk_samples)
        del request, result
        with hold(connection, size + writing):
            for chunk in messages:
                yield chunk

    @SAMPLER.unary_bytes("VerifyDraft", pb.VerifyDraftRequest, pb.VerifyDraftResponse)
    async def verify_draft(self, data: bytes, call: Call) -> bytes:
        """Verify one draft."""
        request = self._draft_decoder.decode_bytes(data)
        verdict = await self._submitter.submit_draft(request, call.arrival, call.deadline, call.connection)
        return encode_verdict(request, verdict).SerializeToString()

    @SAMPLER.bidi_stream("VerifyDraftStream", pb.VerifyDraftRequest, pb.VerifyDraftResponse)
    async def verify_draft_stream(self, call: Call) -> None:
        """Verify each draft of a stream."""
        messages = DraftMessages(decoder=self._draft_decoder)
        await self._streams.run(self._streams.new(messages, self._submitter.submit_draft_to, call))

    @SAMPLER.unary("GetServerInfo", pb.GetServerInfoRequest, pb.GetServerInfoResponse)
    async def get_server_info(self, _request: pb.GetServerInfoRequest, _call: Call) -> pb.GetServerInfoResponse:
        """Say what the server is, can do and where its limits are."""
        return self._info

    def leave(self) -> None:
        """Say that the server is not ready, and answer requests all the same."""
        self._submitter.leave()

    def drain(self) -> None:
        """Refuse new requests, and end every stream once what it has in flight is answered."""
        self._streams.submit_gathered()
        self._submitter.close()
        self._streams.drain()
