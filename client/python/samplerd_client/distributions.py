"""Uploaded distributions: rows that are sent once and sampled by name many times."""

from __future__ import annotations

import asyncio
import functools
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack, cast

import grpc
from google.protobuf import duration_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import ArrayLike, as_rows
from samplerd_client.device_calls import call_with_names
from samplerd_client.device_rows import is_on_device
from samplerd_client.errors import ConnectionLostError, DeadlineError, NotImplementedFieldError, SamplerdError
from samplerd_client.params import put_shared
from samplerd_client.request import build
from samplerd_client.result import SampleChunk, decode_chunk
from samplerd_client.retry import RetryPolicy, with_retries
from samplerd_client.status import error_from_rpc, error_from_status
from samplerd_client.wire import with_tensor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from samplerd_client.cuda_regions import CudaRegions
    from samplerd_client.options import SampleOptions
    from samplerd_client.params import CudaSharedMemory, SamplingParams, SharedMemory
    from samplerd_client.retry import Deadline, RetryBudget
    from samplerd_client.shared_memory import Slot

__all__ = ["Distribution", "DistributionCalls"]

_T = TypeVar("_T")

_Draw: TypeAlias = (
    "grpc.aio.UnaryStreamCall[bytes, pb.SampleResponse] | grpc.aio.StreamStreamCall[bytes, pb.SampleResponse]"
)

_ONCE = RetryPolicy(max_attempts=1)
"""Calls that change the server's state are not tried again: ALREADY_EXISTS could come from the first attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """An uploaded distribution."""

    name: str
    rows: int
    vocab_size: int
    are_probabilities: bool
    """The numbers are weights, not logits."""
    memory_bytes: int
    """Bytes that it takes on the server."""
    create_time: datetime
    expire_time: datetime | None
    """When the server frees it if it is not used before; None = never."""


def _decode(message: pb.Distribution) -> Distribution:
    return Distribution(
        name=message.name,
        rows=message.rows,
        vocab_size=message.vocab_size,
        are_probabilities=message.kind == pb.INPUT_KIND_PROBABILITIES,
        memory_bytes=message.memory_bytes,
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
        expire_time=message.expire_time.ToDatetime(tzinfo=UTC) if message.HasField("expire_time") else None,
    )


async def _read(call: _Draw, wait_s: float | None) -> pb.SampleResponse | None:
    """Return the next reply of a call, or None after the last."""
    try:
        async with asyncio.timeout(wait_s):
            response = await call.read()
    except TimeoutError:
        raise DeadlineError("the time given to the chunk is over") from None
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
    if not isinstance(response, pb.SampleResponse):
        return None  # grpc.aio.EOF
    if response.HasField("error"):
        raise error_from_status(response.error)
    return response


class DistributionCalls:
    """Calls that manage uploaded distributions, as methods of the client."""

    async def create_distribution(
        self,
        logits: ArrayLike | None = None,
        *,
        name: str = "",
        probabilities: bool = False,
        ttl_s: float | None = None,
        params: SamplingParams | None = None,
        shared_memory: SharedMemory | CudaSharedMemory | Slot | None = None,
        dtype: str | None = None,
        timeout_s: float | None = None,
    ) -> Distribution:
        """Upload rows, to be sampled with ``sample(distribution=name)``.

        Args:
            logits: [V] or [B, V], as for `sample`, on a CUDA device too; None with shared_memory.
            name: 1 to 128 of ``A-Z a-z 0-9 . _ -``; empty lets the server choose.
            probabilities: the numbers are weights, not logits.
            ttl_s: idle time in seconds after which it is freed; None = the server's default.
            params: fixed for every draw; requests then carry no parameters.
            shared_memory: rows in shared memory of the server's host, copied once.
            dtype: convert the rows before sending.
            timeout_s: seconds for this call; None = the client's.

        Raises:
            AlreadyExistsError: the name is taken.
            OverloadedError: the server has no memory left for distributions.
            CudaMemoryError: the memory of a tensor on a CUDA device cannot be shared.

        """
        if is_on_device(logits):
            fields: dict[str, Any] = {"probabilities": probabilities, "ttl_s": ttl_s, "params": params}
            create = functools.partial(self.create_distribution, name=name, **fields)
            given = {"dtype": dtype, "shared_memory": shared_memory}
            return await call_with_names(
                create, self._cuda_regions, logits, cast("SampleOptions", given), self._deadline(timeout_s)
            )
        if (logits is None) == (shared_memory is None):
            raise ValueError("give the rows exactly once: as the first argument, or as shared_memory")
        request = pb.CreateDistributionRequest(name=name)
        if probabilities:
            request.kind = pb.INPUT_KIND_PROBABILITIES
        if ttl_s is not None:
            nanos = round(ttl_s * 1e9)
            request.ttl.CopyFrom(duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9))
        if params is not None:
            request.params.CopyFrom(params.to_proto())
        if shared_memory is not None:
            put_shared(request, shared_memory)
        rows = None if logits is None else as_rows(logits, dtype)
        body = with_tensor(request.SerializeToString(), rows, pb.CreateDistributionRequest.TENSOR_FIELD_NUMBER)
        decode = pb.CreateDistributionResponse.FromString
        response = await self._call("CreateDistribution", body, decode, timeout_s, policy=_ONCE, distribution=name)
        return _decode(response.distribution)

    async def get_distribution(self, name: str, *, timeout_s: float | None = None) -> Distribution:
        """Describe one uploaded distribution; NotFoundError when there is none of that name."""
        body = pb.GetDistributionRequest(name=name).SerializeToString()
        response = await self._call(
            "GetDistribution", body, pb.GetDistributionResponse.FromString, timeout_s, distribution=name
        )
        return _decode(response.distribution)

    async def delete_distribution(self, name: str, *, timeout_s: float | None = None) -> None:
        """Free one uploaded distribution; NotFoundError when there is none of that name."""
        body = pb.DeleteDistributionRequest(name=name).SerializeToString()
        await self._call(
            "DeleteDistribution",
            body,
            pb.DeleteDistributionResponse.FromString,
            timeout_s,
            policy=_ONCE,
            distribution=name,
        )

    async def list_distributions(self, *, timeout_s: float | None = None) -> AsyncIterator[Distribution]:
        """Yield the uploaded distributions in order of name, page by page; the timeout is for each page."""
        token = ""
        while True:
            body = pb.ListDistributionsRequest(page_token=token).SerializeToString()
            page = await self._call("ListDistributions", body, pb.ListDistributionsResponse.FromString, timeout_s)
            for message in page.distributions:
                yield _decode(message)
            token = page.next_page_token
            if not token:
                return

    async def draw_chunks(
        self, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> AsyncGenerator[SampleChunk, None]:
        """Draw any number of samples from a distribution in bounded memory; yields the parts in order.

        The draw has a call of its own: the server draws as the parts are taken, and stops when the iterator is closed
        (``contextlib.aclosing``). It is tried again as other calls are until the first part comes, and not after it.
        What was broken off can be continued: with the same seed and, for one row, a `draw_offset` that is larger by the
        samples taken.

        Args:
            timeout_s: seconds to wait for each part, for the first one with all attempts; None = the client's.
            options: as for `sample`, with the name as `distribution`; limits.max_stream_samples bounds the draw.

        Raises:
            NotFoundError: there is no distribution of that name.
            ConnectionLostError: the call ended before the last part came.
            DeadlineError: a part took too long.

        """
        body, name = build(None, options).encode(), options.get("distribution")
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        offset = 0
        async with aclosing(self._replies(body, name, wait_s)) as replies:
            async for response in replies:
                chunk = decode_chunk(response, offset)
                offset += len(chunk.samples)
                yield chunk
                if chunk.is_final:
                    with suppress(SamplerdError):  # all samples have come; let the call end, so that it ends with OK
                        await anext(replies, None)
                    return
        raise ConnectionLostError("the server ended the call before the last part")

    async def _replies(
        self, body: bytes, name: str | None, wait_s: float | None
    ) -> AsyncGenerator[pb.SampleResponse, None]:
        """Yield the replies to a draw; a server from before SampleDistribution draws the same by SampleStream."""
        try:
            call, response = await self._begin_draw("SampleDistribution", body, name, wait_s)
        except NotImplementedFieldError as error:
            if error.name:
                raise
            call, response = await self._begin_draw("SampleStream", body, name, wait_s)
        try:
            while response is not None:
                yield response
                response = await _read(call, wait_s)
        finally:
            call.cancel()

    async def _begin_draw(
        self, rpc: str, body: bytes, name: str | None, wait_s: float | None
    ) -> tuple[_Draw, pb.SampleResponse | None]:
        """Begin a draw and wait for its first reply, trying again as other calls do."""

        async def attempt(left_s: float | None) -> tuple[_Draw, pb.SampleResponse | None]:
            call = self._open_draw(rpc, body, name)
            try:
                return call, await _read(call, left_s)
            except BaseException:
                call.cancel()
                raise

        return await with_retries(attempt, policy=self._policy, budget=self._budget, deadline=self._deadline(wait_s))

    _timeout_s: float | None
    """How long a call may take, unless it says otherwise."""
    _policy: RetryPolicy
    """The client's retry policy."""
    _budget: RetryBudget
    """The retries that are left to the client."""
    _cuda_regions: CudaRegions
    """The device memory that the client has registered."""

    def _deadline(self, timeout_s: float | None) -> Deadline:
        """Return the end of a call that begins now; the client does."""
        raise NotImplementedError

    def _open_draw(self, rpc: str, body: bytes, distribution: str | None) -> _Draw:
        """Begin a call that one request opens and many replies answer; the client does."""
        raise NotImplementedError

    async def _call(
        self,
        name: str,
        body: bytes,
        decode: Callable[[bytes], _T],
        timeout_s: float | None,
        *,
        policy: RetryPolicy | None = None,
        wait_for_ready: bool | None = None,
        distribution: str | None = None,
    ) -> _T:
        """Make a unary call; the client does."""
        raise NotImplementedError
