"""Many requests over one call: sent by one writer, answered in any order, matched by id.

Who does what: a caller puts its request into the queue and waits for its own entry; the writer task alone writes to the
call, the reader task alone reads from it. gRPC cancels a whole stream when a read or a write is cancelled, so neither
is ever wrapped in a timeout or left to a caller's task: a caller that gives up only forgets its entry.

Rule 1: an entry holds its place among `max_in_flight` until the server has answered it, wanted or not. Rule 2: when the
stream breaks, everyone who waits gets ConnectionLostError, and nothing is sent again behind the caller's back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.errors import ConnectionLostError, DeadlineError, SamplerdError
from samplerd_client.request import Plan, SampleOptions, build
from samplerd_client.result import SampleChunk, SampleResult, assemble, decode_chunk
from samplerd_client.retry import Deadline, RetryBudget, RetryPolicy, SystemClock, with_retries
from samplerd_client.status import error_from_rpc, error_from_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, MutableSet
    from types import TracebackType

    from samplerd_client.arrays import ArrayLike

__all__ = ["SampleStream"]

_CLOSE_GRACE_S = 5.0
"""How long a stream that is being closed waits for the server's last replies."""

_CORE_ERROR = "Internal error from Core"
"""What grpcio makes of the status when a write fails before the server's own status has come; the real one is lost."""

_Reply = pb.SampleResponse | SamplerdError


class _Entry:
    """A request in flight, and the replies to it that its caller has not taken yet."""

    __slots__ = ("body", "is_abandoned", "replies")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.replies: asyncio.Queue[_Reply] = asyncio.Queue()  # bounded by what the caller asked for
        self.is_abandoned = False


class SampleStream:
    """A stream of requests; made by `SamplerClient.stream`, entered with ``async with``.

    ::

        async with client.stream() as stream:
            results = await asyncio.gather(*(stream.sample(row, seed=1) for row in rows))
    """

    def __init__(
        self,
        open_call: Callable[[], Any],
        *,
        max_in_flight: int,
        timeout_s: float | None,
        policy: RetryPolicy,
        budget: RetryBudget,
        registry: MutableSet[SampleStream],
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, got {max_in_flight}")
        self._open_call = open_call
        self._timeout_s = timeout_s
        self._policy = policy
        self._budget = budget
        self._registry = registry
        self._clock = SystemClock()
        self._places = asyncio.Semaphore(max_in_flight)
        self._entries: dict[int, _Entry] = {}
        self._outbox: asyncio.Queue[int | None] = asyncio.Queue()  # None = nothing more comes; bounded by _places
        self._next_id = 1
        self._failure: SamplerdError | None = ConnectionLostError("the stream is not open; use it with `async with`")
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._call = self._open_call()
        self._failure = None
        self._reader = asyncio.create_task(self._read(), name="samplerd-stream-reader")
        self._writer = asyncio.create_task(self._write(), name="samplerd-stream-writer")
        self._registry.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.aclose()
        else:
            await self.abort()

    @property
    def in_flight(self) -> int:
        """Requests sent, or about to be, and not answered."""
        return len(self._entries)

    async def sample(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> SampleResult:
        """Draw from every row; arguments, result and errors are those of `SamplerClient.sample`.

        Raises:
            ConnectionLostError: the stream broke before the reply came.

        """
        plan = build(logits, options)
        deadline = Deadline.after(self._timeout_s if timeout_s is None else timeout_s, self._clock)

        async def attempt(left_s: float | None) -> SampleResult:
            replies: list[pb.SampleResponse] = []
            try:
                async with asyncio.timeout(left_s):
                    entry = await self._submit(plan)
                    try:
                        while not replies or not replies[-1].final:
                            replies.append(_take(await entry.replies.get()))
                    finally:
                        entry.is_abandoned = True
            except TimeoutError:
                raise DeadlineError("the time given to the request is over") from None
            return assemble(replies, plan)

        return await with_retries(attempt, policy=self._policy, budget=self._budget, deadline=deadline)

    async def sample_chunks(
        self, logits: ArrayLike | None = None, *, timeout_s: float | None = None, **options: Unpack[SampleOptions]
    ) -> AsyncIterator[SampleChunk]:
        """Yield the parts of a large draw as they come; never tried again.

        Chunks that are not taken wait in memory, so a caller that takes its time holds nobody up. Close the iterator
        (``contextlib.aclosing``) when leaving it early.

        Args:
            logits: as for `sample`.
            timeout_s: seconds to wait for each chunk.
            options: as for `sample`.

        """
        plan = build(logits, options)
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        entry: _Entry | None = None
        offset = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(wait_s):
                        entry = entry or await self._submit(plan)
                        response = _take(await entry.replies.get())
                except TimeoutError:
                    raise DeadlineError("the time given to the chunk is over") from None
                chunk = decode_chunk(response, offset)
                offset += len(chunk.samples)
                yield chunk
                if chunk.is_final:
                    return
        finally:
            if entry is not None:
                entry.is_abandoned = True

    async def aclose(self) -> None:
        """Send what is queued, wait a few seconds for the replies, and close the stream."""
        if self._reader is None:
            return
        self._outbox.put_nowait(None)
        await asyncio.wait({self._reader}, timeout=_CLOSE_GRACE_S)
        await self.abort()

    async def abort(self) -> None:
        """Close the stream at once; whoever waits gets ConnectionLostError."""
        reader, writer, self._reader, self._writer = self._reader, self._writer, None, None
        if reader is None or writer is None:
            return
        self._registry.discard(self)
        self._call.cancel()
        await asyncio.wait({reader})
        self._outbox.put_nowait(None)  # the writer may be waiting for work
        await asyncio.wait({writer})

    async def _submit(self, plan: Plan) -> _Entry:
        """Queue a request once there is a place for it."""
        await self._places.acquire()
        if self._failure is not None:
            self._places.release()
            raise _copy(self._failure)
        request_id = self._next_id
        self._next_id += 1
        entry = self._entries[request_id] = _Entry(plan.encode(request_id))
        self._outbox.put_nowait(request_id)
        return entry

    async def _write(self) -> None:
        while (request_id := await self._outbox.get()) is not None:
            entry = self._entries.get(request_id)
            if entry is None:
                continue
            if entry.is_abandoned:
                self._settle(request_id)
                continue
            try:
                await self._call.write(entry.body)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                return  # the call is over; the reader knows why
            entry.body = b""
        try:
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return

    async def _read(self) -> None:
        failure: SamplerdError = ConnectionLostError("the server ended the stream")
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self._deliver(response)
        except grpc.aio.AioRpcError as error:
            failure = _broken(error)
        except asyncio.CancelledError:
            failure = ConnectionLostError("the stream was closed")
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        finally:
            self._fail(failure)

    def _deliver(self, response: pb.SampleResponse) -> None:
        entry = self._entries.get(response.id)
        if entry is None:
            return  # answered already; a server that answers twice harms nobody
        failed = response.HasField("error")
        if not entry.is_abandoned:
            entry.replies.put_nowait(error_from_status(response.error) if failed else response)
        if failed or response.final:
            self._settle(response.id)

    def _settle(self, request_id: int) -> None:
        if self._entries.pop(request_id, None) is not None:
            self._places.release()

    def _fail(self, failure: SamplerdError) -> None:
        self._failure = failure
        for request_id, entry in tuple(self._entries.items()):
            entry.replies.put_nowait(_copy(failure))
            self._settle(request_id)


def _take(reply: _Reply) -> pb.SampleResponse:
    if isinstance(reply, SamplerdError):
        raise reply
    return reply


def _broken(error: grpc.aio.AioRpcError) -> ConnectionLostError:
    """Return the failure of a stream that the server, or the network, has ended."""
    if error.details() == _CORE_ERROR:
        return ConnectionLostError("the stream broke while a request was being written")
    status = error_from_rpc(error)
    failure = ConnectionLostError(f"the stream broke: {error.code().name}: {status.message}", reason=status.reason)
    failure.__cause__ = status
    return failure


def _copy(failure: SamplerdError) -> SamplerdError:
    """Return an exception of its own for each caller: a traceback belongs to one."""
    copy = type(failure)(failure.message, reason=failure.reason)
    copy.__cause__ = failure.__cause__
    return copy
