"""The public streams, one for each streaming RPC: their arguments and results. `multiplex` sends the messages."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Unpack

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.device_calls import call_with_names, chunks_with_names, has_device_rows
from samplerd_client.draft import VerifyOptions, VerifyResult, build_draft, decode_verdict
from samplerd_client.errors import DeadlineError
from samplerd_client.multiplex import MultiplexedStream
from samplerd_client.request import build
from samplerd_client.result import SampleChunk, SampleResult, assemble, decode_chunk
from samplerd_client.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from samplerd_client.arrays import ArrayLike
    from samplerd_client.cuda_regions import CudaRegions
    from samplerd_client.options import SampleOptions
    from samplerd_client.params import Ids
    from samplerd_client.pending_request import PendingRequest

__all__ = ["SampleStream", "VerifyStream"]


class SampleStream(MultiplexedStream[pb.SampleResponse]):
    """A stream of requests, made by `SamplerClient.stream`; use it with ``async with``.

    ::

        async with client.stream() as stream:
            results = await asyncio.gather(*(stream.sample(row, seed=1) for row in rows))
    """

    def __init__(self, *, cuda_regions: CudaRegions, **parts: Any) -> None:
        super().__init__(**parts)
        self._cuda_regions = cuda_regions

    async def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """Draw from every row; arguments, result and errors are those of `SamplerClient.sample`.

        Raises:
            ConnectionLostError: the stream broke before the reply came.

        """
        if has_device_rows(logits, options):
            return await call_with_names(self.sample, self._cuda_regions, logits, options, self._time(timeout_s))
        prepared = build(logits, options)
        return assemble(await self._exchange(prepared, timeout_s), prepared.template)

    async def sample_chunks(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> AsyncIterator[SampleChunk]:
        """Yield the parts of a large draw as they arrive. Not tried again after a failure.

        Chunks that are not taken wait in memory, so a caller that takes its time holds nobody up: for draws that are
        larger than that, see `SamplerClient.draw_chunks`. Close the iterator (``contextlib.aclosing``) when leaving it
        early.

        Args:
            logits: as for `sample`.
            timeout_s: seconds to wait for each chunk.
            options: as for `sample`.

        """
        if has_device_rows(logits, options):
            deadline = self._time(timeout_s)
            source = chunks_with_names(
                self._chunks, self._cuda_regions, logits, options, deadline=deadline, timeout_s=timeout_s
            )
        else:
            source = self._chunks(logits, timeout_s=timeout_s, **options)
        async with aclosing(source) as chunks:
            async for chunk in chunks:
                yield chunk

    def _time(self, timeout_s: float | None) -> Deadline:
        return Deadline.after(self._default_timeout(timeout_s), self._clock)

    async def _chunks(
        self, logits: ArrayLike | None, *, timeout_s: float | None, **options: Unpack[SampleOptions]
    ) -> AsyncGenerator[SampleChunk, None]:
        prepared = build(logits, options)
        wait_s = self._default_timeout(timeout_s)
        pending: PendingRequest[pb.SampleResponse] | None = None
        offset = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(wait_s):
                        pending = pending or await self._submit(prepared)
                        response = await pending.take()
                except TimeoutError:
                    raise DeadlineError("the time given to the chunk is over") from None
                chunk = decode_chunk(response, offset)
                offset += len(chunk.samples)
                yield chunk
                if chunk.is_final:
                    return
        finally:
            if pending is not None:
                pending.is_abandoned = True

    def _is_last(self, response: pb.SampleResponse) -> bool:
        return response.final


class VerifyStream(MultiplexedStream[pb.VerifyDraftResponse]):
    """A stream of drafts, made by `SamplerClient.verify_stream`; use it with ``async with``.

    ::

        async with client.verify_stream() as stream:
            results = await asyncio.gather(*(stream.verify(own.target, own.ids, own.draft) for own in sequences))
    """

    async def verify(
        self,
        target: ArrayLike,
        draft_ids: Ids,
        draft: ArrayLike | None = None,
        *,
        timeout_s: float | None = None,
        **options: Unpack[VerifyOptions],
    ) -> VerifyResult:
        """Accept or correct a draft; arguments, result and errors are those of `SamplerClient.verify_draft`.

        Raises:
            ConnectionLostError: the stream broke before the reply came.

        """
        prepared = build_draft(target, draft_ids, draft, options)
        (response,) = await self._exchange(prepared, timeout_s)
        return decode_verdict(response)

    def _is_last(self, response: pb.VerifyDraftResponse) -> bool:  # noqa: ARG002  # a draft has one reply
        return True
