"""The synchronous client: a thin face of the asyncio one, whose loop runs in a thread of its own.

Rule 1: no logic here; every method hands its arguments on. Rule 2: all clients of a process share one loop and thread,
since gRPC's asyncio wants one loop per process; the thread starts with the first open client and ends with the last.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from samplerd_client.channel import DEFAULT_MAX_MESSAGE_BYTES, TlsConfig
from samplerd_client.client import DEFAULT_TIMEOUT_S, SamplerClient
from samplerd_client.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from samplerd_client.arrays import ArrayLike
    from samplerd_client.distributions import Distribution
    from samplerd_client.info import Health, ServerInfo
    from samplerd_client.params import SamplingParams, SharedMemory
    from samplerd_client.request import SampleOptions
    from samplerd_client.result import SampleChunk, SampleResult
    from samplerd_client.retry import RetryPolicy
    from samplerd_client.stream import SampleStream

__all__ = ["SyncSampleStream", "SyncSamplerClient"]

_T = TypeVar("_T")


class _LoopThread:
    """The one loop and its thread, counted by the clients that use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="samplerd-client", daemon=True)
                self._thread.start()
            self._users += 1
            return self._loop

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._loop = self._thread = None


_LOOP = _LoopThread()


class _Runner:
    """Runs coroutines of one client on the shared loop, from any thread but the loop's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_started(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        if self._loop is None:
            self._loop = _LOOP.acquire()

    def stop(self) -> None:
        if self._loop is not None:
            self._loop = None
            _LOOP.release()

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        if self._loop is None:
            work.close()
            raise ConnectionLostError("the client is not connected; use it as `with SyncSamplerClient(...)`")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # after Ctrl-C the call must not live on
            raise


class SyncSampleStream:
    """A stream of requests; made by `SyncSamplerClient.stream`, entered with ``with``."""

    def __init__(self, runner: _Runner, stream: SampleStream) -> None:
        self._runner = runner
        self._stream = stream

    def __enter__(self) -> Self:
        self._runner.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._stream.__aexit__(kind, error, trace))

    def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """As `SampleStream.sample`."""
        return self._runner.run(self._stream.sample(logits, timeout_s=timeout_s, **options))

    def submit(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> Future[SampleResult]:
        """As `sample`, but return a future at once: how one thread keeps many requests in flight."""
        return self._runner.submit(self._stream.sample(logits, timeout_s=timeout_s, **options))

    def sample_chunks(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> Iterator[SampleChunk]:
        """As `SampleStream.sample_chunks`."""
        chunks = self._stream.sample_chunks(logits, timeout_s=timeout_s, **options)

        async def following() -> SampleChunk | None:
            return await anext(chunks, None)

        async def close() -> None:
            await chunks.aclose()  # type: ignore[attr-defined]

        try:
            while (chunk := self._runner.run(following())) is not None:
                yield chunk
        finally:
            self._runner.run(close())


class SyncSamplerClient:
    """A client for code without an event loop; the methods and errors are those of `SamplerClient`.

    ::

        with SyncSamplerClient("127.0.0.1:50051") as client:
            result = client.sample(logits, temperature=0.7)

    It may be shared by threads. Not to be used on an event loop's own thread, which it would block.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: TlsConfig | None = None,
        token: str | None = None,
        allow_plaintext_token: bool = False,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self._client = SamplerClient(
            target,
            tls=tls,
            token=token,
            allow_plaintext_token=allow_plaintext_token,
            timeout_s=timeout_s,
            retry=retry,
            max_message_bytes=max_message_bytes,
        )
        self._runner = _Runner()

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
        self._runner.run(self._client.aclose())
        self._runner.stop()

    def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """As `SamplerClient.sample`."""
        return self._runner.run(self._client.sample(logits, timeout_s=timeout_s, **options))

    def stream(self, *, max_in_flight: int = 256) -> SyncSampleStream:
        """As `SamplerClient.stream`, to be entered with ``with``."""
        return SyncSampleStream(self._runner, self._client.stream(max_in_flight=max_in_flight))

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
        shared_memory: SharedMemory | None = None,
        dtype: str | None = None,
        timeout_s: float | None = None,
    ) -> Distribution:
        """As `SamplerClient.create_distribution`."""
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
