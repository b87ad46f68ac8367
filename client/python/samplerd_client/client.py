"""The asyncio client: unary calls with deadlines and retries, and the methods that open streams.

Rule 1: construction does nothing; `async with` (or `connect`) opens the channel on the running loop, `aclose` ends it.
Rule 2: every failure of a call is a `SamplerdError`. One event loop per process may use gRPC's asyncio; see `sync`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.channel import DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_PING_TIMEOUT_S, ChannelConfig, TlsConfig
from samplerd_client.channel_pool import ChannelPool
from samplerd_client.coalesce import Coalescer, Coalescing
from samplerd_client.cuda_regions import CudaRegions
from samplerd_client.device_calls import call_with_names, has_device_rows
from samplerd_client.distributions import DistributionCalls
from samplerd_client.draft import VerifyOptions, VerifyResult, build_draft, decode_verdict
from samplerd_client.errors import ConnectionLostError
from samplerd_client.joint_call import sample_together
from samplerd_client.request import build
from samplerd_client.result import SampleResult, assemble
from samplerd_client.retry import Deadline, RetryBudget, RetryPolicy, SystemClock, with_retries
from samplerd_client.server_queries import ServerQueries
from samplerd_client.status import error_from_rpc
from samplerd_client.stream import SampleStream, VerifyStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from samplerd_client.arrays import ArrayLike
    from samplerd_client.multiplex import MultiplexedStream
    from samplerd_client.options import SampleOptions
    from samplerd_client.params import Ids

__all__ = ["DEFAULT_TIMEOUT_S", "SamplerClient"]

_T = TypeVar("_T")

DEFAULT_TIMEOUT_S = 30.0
"""Default timeout, so that no call waits for ever; far above the time of any draw."""


class SamplerClient(DistributionCalls, ServerQueries):
    """A client of the server, or of the servers behind a load balancer, at one target.

    ::

        async with SamplerClient("127.0.0.1:50051") as client:
            result = await client.sample(logits, temperature=0.7, top_p=0.9, seed=1)

    Args:
        target: ``host:port`` or ``unix:/path``; or a list of such addresses, all of one kind: calls go in turn to the
            servers that are healthy.
        balance: so with the addresses that one name stands for, as of ``dns:///name:port``; None = only for a list.
        connections: connections to each server, used in turn. With 1, the clients of a process share one.
        metadata: sent with every call. Calls about a distribution carry its name as ``x-samplerd-distribution`` too.
        tls: whom to trust and who to be; None = no encryption.
        token: sent as ``authorization: Bearer``; never over an unencrypted network unless `allow_plaintext_token`.
        allow_plaintext_token: see `token`.
        timeout_s: seconds for a call with its retries, or a part of a streamed draw, by default; None = no end.
        retry: how often and after how long a call is tried again.
        max_message_bytes: largest reply that is taken.
        ping_timeout_s: seconds without an answer after which a server is taken for frozen; see `ChannelConfig`.
        coalesce: let concurrent calls of `sample` with one row each travel together, with the same results and errors;
            `Coalescing` sets its limits. False = a message for each call.

    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        balance: bool | None = None,
        connections: int = 1,
        metadata: Mapping[str, str] | None = None,
        tls: TlsConfig | None = None,
        token: str | None = None,
        allow_plaintext_token: bool = False,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        ping_timeout_s: float = DEFAULT_PING_TIMEOUT_S,
        coalesce: bool | Coalescing = True,
    ) -> None:
        config = ChannelConfig(
            target=target if isinstance(target, str) else tuple(target),
            balance=balance,
            connections=connections,
            extra_metadata=tuple((metadata or {}).items()),
            tls=tls,
            token=token,
            allow_plaintext_token=allow_plaintext_token,
            max_message_bytes=max_message_bytes,
            ping_timeout_s=ping_timeout_s,
        )
        self._timeout_s = timeout_s
        self._policy = retry or RetryPolicy()
        self._budget = RetryBudget(self._policy)
        self._clock = SystemClock()
        self._pool = ChannelPool(config)
        self._cuda_regions = CudaRegions(self._call, why_not=self._pool.why_no_regions)
        self._coalescing = Coalescing() if coalesce is True else coalesce or None
        self._coalescer: Coalescer | None = None
        self._streams: set[MultiplexedStream[Any]] = set()

    @property
    def target(self) -> str:
        """The address of the server, or of the servers."""
        return self._pool.target

    async def connect(self) -> Self:
        """Open the channel on the running event loop. The first call makes the connection.

        Raises ConnectionLostError in a process that was forked off one with a client.
        """
        if not self._pool.is_open:
            self._pool.open()
            if self._coalescing is not None:
                self._coalescer = Coalescer(self._send, self._coalescing)
        return self

    async def aclose(self) -> None:
        """Close the streams and the channel; calls in flight fail with ConnectionLostError."""
        try:
            await self._cuda_regions.aclose()
        finally:
            await self._close_channels()

    async def _close_channels(self) -> None:
        channels = self._pool.detach()
        coalescer, self._coalescer = self._coalescer, None
        for stream in tuple(self._streams):
            await stream.abort()
        for channel in channels:
            await channel.close()
        if coalescer is not None:
            await coalescer.aclose()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """Draw from every row.

        Args:
            logits: [V] (one row) or [B, V]: a numpy array, a list, a buffer, or a tensor of any library that speaks
                DLPack; or torch's on a CUDA device, which a server with ``--cuda-shared-memory`` reads where it lies.
                None when `candidates`, `distribution`, `values` or `shared_memory` says what to draw from.
            timeout_s: seconds for this call with its retries. None = the client's.
            options: every field of `SamplingParams` (temperature, top_k, top_p, ...), and those of `SampleOptions`:
                num_samples, replacement, seed, logprobs, ...

        Returns:
            The samples as int32[B, S] and whatever else was asked for. A row that failed alone is -1 there and listed
            in `row_errors`; `raise_for_rows` makes an exception of it.

        Raises:
            SamplerdError: the call as a whole failed; see `errors` for the tree.
            TypeError, ValueError: the arguments make no request.
            CudaMemoryError: the memory of a tensor on a CUDA device cannot be shared.

        """
        if has_device_rows(logits, options):
            return await call_with_names(self.sample, self._cuda_regions, logits, options, self._deadline(timeout_s))
        prepared = build(logits, options)
        coalescer = self._coalescer
        key = None if coalescer is None else coalescer.key(prepared)
        if coalescer is None or key is None:
            response = await self._call(
                "Sample",
                prepared.encode(),
                pb.SampleResponse.FromString,
                timeout_s,
                distribution=options.get("distribution"),
            )
            return assemble([response], prepared.template)
        deadline, budget = self._deadline(timeout_s), self._budget
        return await sample_together(
            coalescer, key, prepared, self._send, policy=self._policy, budget=budget, deadline=deadline
        )

    def stream(self, *, max_in_flight: int = 256) -> SampleStream:
        """Return a stream of requests, for ``async with``; with `max_in_flight` requests unanswered, `sample` waits."""
        parts = self._stream_parts("SampleStream", pb.SampleResponse.FromString, max_in_flight)
        return SampleStream(cuda_regions=self._cuda_regions, **parts)

    async def verify_draft(
        self,
        target: ArrayLike,
        draft_ids: Ids,
        draft: ArrayLike | None = None,
        *,
        timeout_s: float | None = None,
        **options: Unpack[VerifyOptions],
    ) -> VerifyResult:
        """Accept or correct the n drafted tokens of one sequence; the result follows the target's distribution exactly.

        Args:
            target: [n + 1, V], the target model's rows: after the sequence, then after each drafted token.
            draft_ids: the n drafted tokens.
            draft: [n, V], the probabilities (or weights) that they were drawn from; None = each was certain.
            timeout_s: seconds for this call with its retries. None = the client's.
            options: every field of `SamplingParams`, which make the target's distribution; and those of
                `VerifyOptions`: parents (of a tree), row_params, seed, draw_offset, probabilities, ...

        Returns:
            The tokens to go on with. A row that cannot be drawn from ends them early and is in `row_errors`.

        Raises:
            SamplerdError: the call as a whole failed; see `errors` for the tree.
            TypeError, ValueError: the arguments make no request.

        """
        body = build_draft(target, draft_ids, draft, options).encode()
        return decode_verdict(await self._call("VerifyDraft", body, pb.VerifyDraftResponse.FromString, timeout_s))

    def verify_stream(self, *, max_in_flight: int = 256) -> VerifyStream:
        """Return a stream of drafts; use it with ``async with``. `max_in_flight` as for `stream`."""
        parts = self._stream_parts("VerifyDraftStream", pb.VerifyDraftResponse.FromString, max_in_flight)
        return VerifyStream(**parts)

    def _stream_parts(self, name: str, decode: Callable[[bytes], Any], max_in_flight: int) -> dict[str, Any]:
        method = self._pool.method(name, decode, "stream_stream")
        return {
            "open_call": lambda: method(metadata=self._pool.metadata()),
            "max_in_flight": max_in_flight,
            "timeout_s": self._timeout_s,
            "policy": self._policy,
            "budget": self._budget,
            "registry": self._streams,
        }

    def _open_draw(self, rpc: str, body: bytes, distribution: str | None) -> Any:
        shape, request = ("stream_stream", iter((body,))) if rpc == "SampleStream" else ("unary_stream", body)
        method = self._pool.method(rpc, pb.SampleResponse.FromString, shape)
        return method(request, metadata=self._pool.metadata(distribution))

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline.after(self._timeout_s if timeout_s is None else timeout_s, self._clock)

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
        """Return the reply of a unary RPC, tried again as the policy says."""

        def attempt(left_s: float | None) -> Awaitable[_T]:
            method = self._pool.method(name, decode)
            return self._attempt(method(body, timeout=left_s, metadata=metadata, wait_for_ready=wait_for_ready))

        metadata = self._pool.metadata(distribution)
        deadline = self._deadline(timeout_s)
        return await with_retries(attempt, policy=policy or self._policy, budget=self._budget, deadline=deadline)

    async def _send(self, body: bytes, left_s: float | None) -> pb.SampleResponse:
        """Make one attempt at Sample."""
        method = self._pool.method("Sample", pb.SampleResponse.FromString)
        return await self._attempt(method(body, timeout=left_s, metadata=self._pool.metadata()))

    async def _attempt(self, call: grpc.aio.UnaryUnaryCall[bytes, _T]) -> _T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ConnectionLostError("the client was closed during the call") from None
