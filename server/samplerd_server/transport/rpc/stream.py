"""One streaming call of any protocol: requests in, replies out in the order of completion.

The reader takes requests as long as fewer than `limit` are in flight; a request stays in flight until its last chunk is
written, so the requests of a client that reads no replies are no longer read. The writer sends whatever is done. A
request that fails is answered with its error, and the stream goes on.

Rule 1: neither task is ever cancelled while it reads or writes, unless the whole call is: grpcio leaks otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import grpc.aio

from samplerd_server.core.errors import OK, Code, InternalError, SamplerdError, UnavailableError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable

    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.rpc.call import Call

__all__ = ["Messages", "Request", "Result", "Stream"]


class _Identified(Protocol):
    """A request with an id."""

    @property
    def id(self) -> int: ...


Request = TypeVar("Request", bound=_Identified)
Result = TypeVar("Result")
_Result_contra = TypeVar("_Result_contra", contravariant=True)
_LOG = logging.getLogger("samplerd.transport")


class Messages(Protocol[Request, _Result_contra]):
    """How the messages of one streaming RPC are read and written."""

    def decode(self, data: bytes) -> Request:
        """Parse and check one request."""
        ...

    def identify(self, data: bytes) -> int:
        """Read the id of a request that could not be decoded; 0 if not even that can be read."""
        ...

    def encode(self, request: Request, result: _Result_contra) -> Iterable[bytes]:
        """Encode a result as one or more messages."""
        ...

    def encode_error(self, request_id: int, error: SamplerdError) -> bytes:
        """Encode the failure of one request."""
        ...


class Stream(Generic[Request, Result]):
    """The state of one call."""

    def __init__(
        self,
        call: Call,
        *,
        messages: Messages[Request, Result],
        submit: Callable[[Request, float, float, str], Future[Result]],
        metrics: Metrics,
        limit: int,
    ) -> None:
        self._call = call
        self._context = call.context
        self._messages = messages
        self._submit = submit
        self._metrics = metrics
        self._limit = limit
        self._connection = call.connection
        self._in_flight = 0
        self._replies: set[Future[Result]] = set()
        self._done: deque[Iterable[bytes]] = deque()
        self._wake_writer = asyncio.Event()
        self._wake_reader = asyncio.Event()
        self._is_read = False
        self._is_draining = False
        self._is_over = False

    def drain(self) -> None:
        """End the call once everything in flight is answered."""
        self._is_draining = True
        self._wake_writer.set()

    async def run(self) -> None:
        """Read and write until the client is done, or the server drains.

        Raises:
            UnavailableError: the server drains; the client should go elsewhere.

        """
        reader = asyncio.create_task(self._read(self._call.deadline), name="samplerd-stream-reader")
        reader.add_done_callback(lambda _: self._wake_writer.set())
        try:
            await self._write(reader)
        except grpc.aio.InternalError as error:
            # grpcio raises this if the client goes away while a message is being written.
            raise asyncio.CancelledError from error
        finally:
            for reply in tuple(self._replies):
                reply.cancel()
            self._in_flight, self._is_over = 0, True
            self._wake_reader.set()
            if not reader.done():
                # The call is over here; grpcio ends the read by itself, and that frees its memory.
                reader.add_done_callback(_ignore)
        if self._is_draining and not self._is_read:
            raise UnavailableError("the server is draining; open the stream at another one")

    async def _read(self, deadline: float) -> None:
        while True:
            data: object = await self._context.read()
            if not isinstance(data, bytes):
                break  # grpc.aio.EOF
            self._accept(data, deadline)
            while self._in_flight >= self._limit:
                self._wake_reader.clear()
                await self._wake_reader.wait()
            if self._is_over:
                return
        self._is_read = True
        self._wake_writer.set()

    def _accept(self, data: bytes, deadline: float) -> None:
        """Submit one request; its reply, or its error, reaches the writer."""
        began = time.monotonic()
        self._in_flight += 1
        try:
            request = self._messages.decode(data)
            reply = self._submit(request, began, deadline, self._connection)
        except SamplerdError as error:
            self._fail(self._messages.identify(data), error, began)
            return
        except Exception:  # noqa: BLE001  # a bug fails this request and not the stream
            _LOG.exception("a request of a stream raised")
            self._fail(self._messages.identify(data), InternalError(), began)
            return
        self._replies.add(reply)

        def finish(reply: Future[Result]) -> None:
            self._replies.discard(reply)
            if reply.cancelled():
                self._count(Code.CANCELLED, began)
                return
            error = reply.exception()
            if error is None:
                self._finish(self._messages.encode(request, reply.result()), OK, began)
            else:
                self._fail(request.id, error if isinstance(error, SamplerdError) else InternalError(), began)

        reply.add_done_callback(finish)

    def _fail(self, request_id: int, error: SamplerdError, began: float) -> None:
        self._finish((self._messages.encode_error(request_id, error),), error.code, began)

    def _finish(self, messages: Iterable[bytes], code: Code, began: float) -> None:
        self._done.append(messages)
        self._wake_writer.set()
        self._count(code, began)

    def put(self, messages: Iterable[bytes]) -> None:
        """Send messages as the next part of a reply that is not complete yet."""
        self._in_flight += 1
        self._done.append(messages)
        self._wake_writer.set()

    def _count(self, code: Code, began: float) -> None:
        self._metrics.request_answered(self._call.rpc, code, time.monotonic() - began)

    async def _write(self, reader: asyncio.Task[None]) -> None:
        while True:
            while self._done:
                for message in self._done.popleft():
                    await self._context.write(message)
                self._in_flight -= 1
                self._wake_reader.set()
            if self._in_flight == 0 and (self._is_read or self._is_draining):
                return
            if reader.done() and not self._is_read:
                reader.result()  # raises what ended it
            self._wake_writer.clear()
            await self._wake_writer.wait()


def _ignore(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a reader that outlived its call: asyncio warns of one that nobody retrieves."""
    if not task.cancelled():
        task.exception()
