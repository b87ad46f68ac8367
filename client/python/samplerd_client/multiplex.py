"""Many requests over one streaming call: one task writes them, replies come in any order and are matched by id.

A caller queues its request and waits for the replies to it. Only the writer task writes to the call, and only the
reader task reads from it: gRPC cancels the whole stream when a read or a write is cancelled, so neither is wrapped in a
timeout or done in a caller's task. A caller that gives up marks its request as abandoned, and the replies to it are
dropped. The deadlines of all requests share one timer.

Rule 1: a request counts towards `max_in_flight` until the server has answered it, even an abandoned one. Rule 2: when
the stream breaks, every waiting caller gets ConnectionLostError; requests that were in flight are not sent again here.
Rule 3: only the id, the error and the end of a reply are looked at here; the rest of it belongs to `stream`.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar

import grpc

from samplerd_client.errors import ConnectionLostError, DeadlineError, SamplerdError
from samplerd_client.pending_request import TIME_IS_OVER, DueTimer, PendingRequest
from samplerd_client.retry import Deadline, RetryBudget, RetryPolicy, SystemClock, with_retries
from samplerd_client.status import error_from_rpc, error_from_status

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSet
    from types import TracebackType

    from google.rpc import status_pb2

__all__ = ["Encodable", "MultiplexedStream"]

_CLOSE_GRACE_S = 5.0
"""How long a stream that is being closed waits for the server's last replies, if its timeout is not shorter."""

_CORE_ERROR = "Internal error from Core"
"""What grpcio makes of the status when a write fails before the server's own status has come; the real one is lost."""


class Encodable(Protocol):
    """Anything that can be sent as a request, once it has an id."""

    def encode(self, request_id: int = 0) -> bytes:
        """Return the bytes of the request."""
        ...


class _Response(Protocol):
    """The fields that replies of every streaming RPC have."""

    @property
    def id(self) -> int: ...

    @property
    def error(self) -> status_pb2.Status: ...

    def HasField(self, field_name: Literal["error"]) -> bool: ...  # noqa: N802  # protobuf's own name


Response = TypeVar("Response", bound=_Response)


class MultiplexedStream(ABC, Generic[Response]):
    """A streaming call that carries many requests; use it with ``async with``."""

    def __init__(
        self,
        open_call: Callable[[], Any],
        *,
        max_in_flight: int,
        timeout_s: float | None,
        policy: RetryPolicy,
        budget: RetryBudget,
        registry: MutableSet[MultiplexedStream[Any]],
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
        self._pending: dict[int, PendingRequest[Response]] = {}
        self._outbox: asyncio.Queue[int | None] = asyncio.Queue()  # None = nothing more comes; bounded by _places
        self._due = DueTimer(self._pending)
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
        return len(self._pending)

    @abstractmethod
    def _is_last(self, response: Response) -> bool:
        """Tell whether this reply is the last one to its request; a failure always is."""

    async def _exchange(self, request: Encodable, timeout_s: float | None) -> list[Response]:
        """Return all replies to a request, which is tried again as the policy says.

        Args:
            request: the request.
            timeout_s: seconds for all attempts together; None = the stream's.

        Raises:
            ConnectionLostError: the stream broke before the last reply came.

        """
        deadline = Deadline.after(self._default_timeout(timeout_s), self._clock)
        failed: SamplerdError | None = None
        # The first attempt, which is the last of nearly all requests, without the coroutines that a second one needs.
        try:
            replies = await self._attempt(request, deadline.remaining_s())
        except SamplerdError as error:
            failed = error
        else:
            self._budget.deposit()
            return replies

        async def attempt(left_s: float | None) -> list[Response]:
            return await self._attempt(request, left_s)

        try:
            return await with_retries(
                attempt, policy=self._policy, budget=self._budget, deadline=deadline, failed=failed
            )
        finally:
            del failed  # it holds this frame, which would hold it

    async def _attempt(self, request: Encodable, left_s: float | None) -> list[Response]:
        """Send a request once and return all replies to it."""
        due_s = math.inf
        if left_s is not None:
            due_s = asyncio.get_running_loop().time() + left_s
        if self._places.locked():
            try:
                async with asyncio.timeout(left_s):
                    await self._places.acquire()
            except TimeoutError:
                raise DeadlineError(TIME_IS_OVER) from None
        else:
            await self._places.acquire()  # which does not wait
        pending = self._begin(request, due_s)
        replies: list[Response] = []
        try:
            while not replies or not self._is_last(replies[-1]):
                while not pending.has_replies():
                    await pending.next_put()
                replies.append(pending.pop())
        finally:
            pending.is_abandoned = True
        return replies

    def _default_timeout(self, timeout_s: float | None) -> float | None:
        """Return the seconds that a caller gave, or else the stream's."""
        return self._timeout_s if timeout_s is None else timeout_s

    async def aclose(self) -> None:
        """Send what is queued, wait a few seconds for the replies, and close the stream."""
        if self._reader is None:
            return
        self._outbox.put_nowait(None)
        grace_s = _CLOSE_GRACE_S if self._timeout_s is None else min(self._timeout_s, _CLOSE_GRACE_S)
        await asyncio.wait({self._reader}, timeout=grace_s)
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

    async def _submit(self, request: Encodable) -> PendingRequest[Response]:
        """Queue a request, after waiting until fewer than `max_in_flight` are unanswered."""
        await self._places.acquire()
        return self._begin(request)

    def _begin(self, request: Encodable, due_s: float = math.inf) -> PendingRequest[Response]:
        """Queue a request that has a place; it fails if it is not answered when it is due."""
        if self._failure is not None:
            self._places.release()
            raise _copy(self._failure)
        request_id = self._next_id
        self._next_id += 1
        # `PendingRequest[Response](...)` would take ten times as long.
        pending: PendingRequest[Response] = PendingRequest(request.encode(request_id), due_s)
        self._pending[request_id] = pending
        self._due.watch(due_s)
        self._outbox.put_nowait(request_id)
        return pending

    async def _write(self) -> None:
        while (request_id := await self._outbox.get()) is not None:
            pending = self._pending.get(request_id)
            if pending is None:
                continue
            if pending.is_abandoned:
                self._settle(request_id)
                continue
            try:
                await self._call.write(pending.body)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                return  # the call is over; the reader knows why
            pending.body = b""
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

    def _deliver(self, response: Response) -> None:
        pending = self._pending.get(response.id)
        if pending is None:
            return  # a second answer to the same request is ignored
        failed = response.HasField("error")
        if not pending.is_abandoned:
            pending.put(error_from_status(response.error) if failed else response)
        if failed or self._is_last(response):
            self._settle(response.id)

    def _settle(self, request_id: int) -> None:
        if self._pending.pop(request_id, None) is not None:
            self._places.release()

    def _fail(self, failure: SamplerdError) -> None:
        self._failure = failure
        self._due.cancel()
        for request_id, pending in tuple(self._pending.items()):
            pending.put(_copy(failure))
            self._settle(request_id)


def _broken(error: grpc.aio.AioRpcError) -> ConnectionLostError:
    """Return the failure of a stream that the server, or the network, has ended."""
    if error.details() == _CORE_ERROR:
        return ConnectionLostError("the stream broke while a request was being written")
    status = error_from_rpc(error)
    failure = ConnectionLostError(f"the stream broke: {error.code().name}: {status.message}", reason=status.reason)
    failure.__cause__, failure.request_id = status, status.request_id
    return failure


def _copy(failure: SamplerdError) -> SamplerdError:
    """Return an exception of its own for each caller: a traceback belongs to one."""
    copy = type(failure)(failure.message, reason=failure.reason)
    copy.__cause__, copy.request_id = failure.__cause__, failure.request_id
    return copy
