"""The synchronous client: every method runs that of the asyncio client, on an event loop in a thread of its own.

Rule 1: no logic here; every method passes its arguments on. Tensors on a CUDA device are captured on the caller's
thread, whose current stream writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from samplerd_client.channel import DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_PING_TIMEOUT_S, TlsConfig
from samplerd_client.client import DEFAULT_TIMEOUT_S, SamplerClient
from samplerd_client.device_rows import capture
from samplerd_client.loop_thread import Runner
from samplerd_client.multiplex import MultiplexedStream
from samplerd_client.process_fork import is_forked
from samplerd_client.stream import SampleStream, VerifyStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from samplerd_client.arrays import ArrayLike
    from samplerd_client.coalesce import Coalescing
    from samplerd_client.distributions import Distribution
    from samplerd_client.draft import VerifyOptions, VerifyResult
    from samplerd_client.info import Health, ServerInfo
    from samplerd_client.options import SampleOptions
    from samplerd_client.params import CudaSharedMemory, Ids, SamplingParams, SharedMemory
    from samplerd_client.result import SampleChunk, SampleResult
    from samplerd_client.retry import RetryPolicy
    from samplerd_client.shared_memory import Slot

__all__ = ["SyncSampleStream", "SyncSamplerClient", "SyncVerifyStream"]

_Stream = TypeVar("_Stream", bound=MultiplexedStream[Any])


def _each(runner: Runner, chunks: AsyncIterator[SampleChunk]) -> Iterator[SampleChunk]:
    """Yield what comes, and close its source when that is enough."""

    async def following() -> SampleChunk | None:
        return await anext(chunks, None)

    async def close() -> None:
        await chunks.aclose()  # type: ignore[attr-defined]

    try:
        while (chunk := runner.run(following())) is not None:
            yield chunk
    finally:
        runner.run(close())


class _SyncStream(Generic[_Stream]):
    """What the streams have in common."""

    def __init__(self, runner: Runner, stream: _Stream) -> None:
        self._runner = runner
        self._stream = stream

    def __enter__(self) -> Self:
        self._runner.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._stream.__aexit__(kind, error, trace))


class SyncSampleStream(_SyncStream[SampleStream]):
    """A stream of requests; made by `SyncSamplerClient.stream`, entered with ``with``."""

    def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """As `SampleStream.sample`."""
        logits, given = capture(logits, options)
        return self._runner.run(self._stream.sample(logits, timeout_s=timeout_s, **given))

    def submit(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> Future[SampleResult]:
        """As `sample`, but return a future at once: how one thread keeps many requests in flight."""
        logits, given = capture(logits, options)
        return self._runner.submit(self._stream.sample(logits, timeout_s=timeout_s, **given))

    def sample_chunks(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> Iterator[SampleChunk]:
        """As `SampleStream.sample_chunks`."""
        logits, given = capture(logits, options)
        return _each(self._runner, self._stream.sample_chunks(logits, timeout_s=timeout_s, **given))


class SyncVerifyStream(_SyncStream[VerifyStream]):
    """A stream of drafts; made by `SyncSamplerClient.verify_stream`, entered with ``with``."""

    def verify(
        self,
        target: ArrayLike,
        draft_ids: Ids,
        draft: ArrayLike | None = None,
        *,
        timeout_s: float | None = None,
        **options: Unpack[VerifyOptions],
    ) -> VerifyResult:
        """As `VerifyStream.verify`."""
        return self._runner.run(self._stream.verify(target, draft_ids, draft, timeout_s=timeout_s, **options))

    def submit(
        self,
        target: ArrayLike,
        draft_ids: Ids,
        draft: ArrayLike | None = None,
        *,
        timeout_s: float | None = None,
        **options: Unpack[VerifyOptions],
    ) -> Future[VerifyResult]:
        """As `verify`, but return a future at once."""
        return self._runner.submit(self._stream.verify(target, draft_ids, draft, timeout_s=timeout_s, **options))


class SyncSamplerClient:
    """A client for code without an event loop; the methods and errors are those of `SamplerClient`.

    ::

        with SyncSamplerClient("127.0.0.1:50051") as client:
            result = client.sample(logits, temperature=0.7)

    The arguments are those of `SamplerClient`. It may be shared by threads. It works where an event loop runs, as in a
    notebook, and blocks that loop during a call: a program that is asyncio throughout wants `SamplerClient`. A process
    that is forked after its parent has opened a client gets a ConnectionLostError at once.
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
        self._client = SamplerClient(
            target,
            balance=balance,
            connections=connections,
            metadata=metadata,
            tls=tls,
            token=token,
            allow_plaintext_token=allow_plaintext_token,
            timeout_s=timeout_s,
            retry=retry,
            max_message_bytes=max_message_bytes,
            ping_timeout_s=ping_timeout_s,
            coalesce=coalesce,
        )
        self._runner = Runner()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Open the channel."""
        self._runner.start()
        self._runner.run(self._client.connect())

    def close(self) -> None:
        """Close streams and the channel; nothing happens when they are closed already."""
        if not self._runner.is_started:
            return
        if is_forked():
            return  # the connection is the parent's
        self._runner.run(self._client.aclose())
        self._runner.stop()

    def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """As `SamplerClient.sample`."""
        logits, given = capture(logits, options)
        return self._runner.run(self._client.sample(logits, timeout_s=timeout_s, **given))

    def submit(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> Future[SampleResult]:
        """As `sample`, but return a future at once: how one thread has many calls travel together."""
        logits, given = capture(logits, options)
        return self._runner.submit(self._client.sample(logits, timeout_s=timeout_s, **given))

    def stream(self, *, max_in_flight: int = 256) -> SyncSampleStream:
        """As `SamplerClient.stream`, to be entered with ``with``."""
        return SyncSampleStream(self._runner, self._client.stream(max_in_flight=max_in_flight))

    def verify_draft(
        self,
        target: ArrayLike,
        draft_ids: Ids,
        draft: ArrayLike | None = None,
        *,
        timeout_s: float | None = None,
        **options: Unpack[VerifyOptions],
    ) -> VerifyResult:
        """As `SamplerClient.verify_draft`."""
        return self._runner.run(self._client.verify_draft(target, draft_ids, draft, timeout_s=timeout_s, **options))

    def verify_stream(self, *, max_in_flight: int = 256) -> SyncVerifyStream:
        """As `SamplerClient.verify_stream`, to be entered with ``with``."""
        return SyncVerifyStream(self._runner, self._client.verify_stream(max_in_flight=max_in_flight))

    def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """As `SamplerClient.server_info`."""
        return self._runner.run(self._client.server_info(timeout_s=timeout_s))

    def health(self, service: str = "", *, timeout_s: float | None = None) -> Health:
        """As `SamplerClient.health`."""
        return self._runner.run(self._client.health(service, timeout_s=timeout_s))

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """As `SamplerClient.wait_ready`."""
        self._runner.run(self._client.wait_ready(timeout_s))

    def create_distribution(
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
        """As `SamplerClient.create_distribution`."""
        logits, _ = capture(logits, {"dtype": dtype})
        call = self._client.create_distribution(
            logits,
            name=name,
            probabilities=probabilities,
            ttl_s=ttl_s,
            params=params,
            shared_memory=shared_memory,
            dtype=dtype,
            timeout_s=timeout_s,
        )
        return self._runner.run(call)

    def draw_chunks(self, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]) -> Iterator[SampleChunk]:
        """As `SamplerClient.draw_chunks`."""
        return _each(self._runner, self._client.draw_chunks(timeout_s=timeout_s, **options))

    def get_distribution(self, name: str, *, timeout_s: float | None = None) -> Distribution:
        """As `SamplerClient.get_distribution`."""
        return self._runner.run(self._client.get_distribution(name, timeout_s=timeout_s))

    def delete_distribution(self, name: str, *, timeout_s: float | None = None) -> None:
        """As `SamplerClient.delete_distribution`."""
        self._runner.run(self._client.delete_distribution(name, timeout_s=timeout_s))

    def list_distributions(self, *, timeout_s: float | None = None) -> list[Distribution]:
        """As `SamplerClient.list_distributions`, all pages at once."""

        async def collect() -> list[Distribution]:
            return [entry async for entry in self._client.list_distributions(timeout_s=timeout_s)]

        return self._runner.run(collect())
