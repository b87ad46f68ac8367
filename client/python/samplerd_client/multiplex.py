"""Many requests over one call: sent by one writer, answered in any order, matched by id.

Who does what: a caller puts its request into the queue and waits for its own entry; the writer task alone writes to the
call, the reader task alone reads from it. gRPC cancels a whole stream when a read or a write is cancelled, so neither
is ever wrapped in a timeout or left to a caller's task: a caller that gives up only forgets its entry.

Rule 1: an entry holds its place among `max_in_flight` until the server has answered it, wanted or not. Rule 2: when the
stream breaks, everyone who waits gets ConnectionLostError, and nothing is sent again behind the caller's back. Rule 3:
what a message says, but for its id, its error and whether it is the last, is the business of `stream`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar

import grpc

from samplerd_client.errors import ConnectionLostError, DeadlineError, SamplerdError
from samplerd_client.retry import Deadline, RetryBudget, RetryPolicy, SystemClock, with_retries
from samplerd_client.status import error_from_rpc, error_from_status

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSet
    from types import TracebackType

    from google.rpc import status_pb2

__all__ = ["Entry", "MultiplexedStream", "Plan"]

_CLOSE_GRACE_S = 5.0
"""How long a stream that is being closed waits for the server's last replies."""

_CORE_ERROR = "Internal error from Core"
"""What grpcio makes of the status when a write fails before the server's own status has come; the real one is lost."""


class Plan(Protocol):
    """A request that waits to be numbered and sent."""

    def encode(self, request_id: int = 0) -> bytes:
        """Return the bytes of the request."""
        ...


class _Response(Protocol):
    """What every reply on a stream has."""

    @property
    def id(self) -> int: ...

    @property
    def error(self) -> status_pb2.Status: ...

    def HasField(self, field_name: Literal["error"]) -> bool: ...  # noqa: N802  # protobuf's own name


Response = TypeVar("Response", bound=_Response)


class Entry(Generic[Response]):
    """A request in flight, and the replies to it that its caller has not taken yet."""

    __slots__ = ("_replies", "body", "is_abandoned")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._replies: asyncio.Queue[Response | SamplerdError] = asyncio.Queue()  # bounded by what the caller asked for
        self.is_abandoned = False

    def put(self, reply: Response | SamplerdError) -> None:
        """Keep a reply, or the failure, for the caller."""
        self._replies.put_nowait(reply)

    async def take(self) -> Response:
        """Return the next reply, or raise the failure."""
        reply = await self._replies.get()
        if isinstance(reply, SamplerdError):
            raise reply
        return reply


class MultiplexedStream(ABC, Generic[Response]):
    """One call that carries many requests, to be entered with ``async with``."""

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
        self._entries: dict[int, Entry[Response]] = {}
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

    @abstractmethod
    def _is_last(self, response: Response) -> bool:
        """Say whether this reply is the last one to its request; a failure always is."""

    async def _exchange(self, plan: Plan, timeout_s: float | None) -> list[Response]:
        """Return all replies to a request, which is tried again as the policy says.

        Args:
            plan: the request.
            timeout_s: seconds for all attempts together; None = the stream's.

        Raises:
            ConnectionLostError: the stream broke before the last reply came.

        """

        async def attempt(left_s: float | None) -> list[Response]:
            replies: list[Response] = []
            try:
                async with asyncio.timeout(left_s):
                    entry = await self._submit(plan)
                    try:
                        while not replies or not self._is_last(replies[-1]):
                            replies.append(await entry.take())
                    finally:
                        entry.is_abandoned = True
            except TimeoutError:
                raise DeadlineError("the time given to the request is over") from None
            return replies

        deadline = Deadline.after(self._default_timeout(timeout_s), self._clock)
        return await with_retries(attempt, policy=self._policy, budget=self._budget, deadline=deadline)

    def _default_timeout(self, timeout_s: float | None) -> float | None:
        """Return the seconds that a caller gave, or else the stream's."""
        return self._timeout_s if timeout_s is None else timeout_s

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

    async def _submit(self, plan: Plan) -> Entry[Response]:
        """Queue a request once there is a place for it."""
        await self._places.acquire()
        if self._failure is not None:
            self._places.release()
            raise _copy(self._failure)
        request_id = self._next_id
        self._next_id += 1
        entry = self._entries[request_id] = Entry[Response](plan.encode(request_id))
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

    def _deliver(self, response: Response) -> None:
        entry = self._entries.get(response.id)
        if entry is None:
            return  # answered already; a server that answers twice harms nobody
        failed = response.HasField("error")
        if not entry.is_abandoned:
            entry.put(error_from_status(response.error) if failed else response)
        if failed or self._is_last(response):
            self._settle(response.id)

    def _settle(self, request_id: int) -> None:
        if self._entries.pop(request_id, None) is not None:
            self._places.release()

    def _fail(self, failure: SamplerdError) -> None:
        self._failure = failure
        for request_id, entry in tuple(self._entries.items()):
            entry.put(_copy(failure))
            self._settle(request_id)


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
