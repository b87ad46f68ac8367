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
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import grpc.aio

from samplerd_server.core.errors import (
    DRAIN_RETRY_S,
    OK,
    Code,
    InternalError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.transport.rpc.arrival import current_record
from samplerd_server.transport.rpc.reply_bytes import LEAST_BYTES
from samplerd_server.transport.rpc.stream_messages import Request, Result

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable

    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.call_trace import StreamedRequest
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes
    from samplerd_server.transport.rpc.stream_messages import Messages

__all__ = ["Stream", "ignore_outcome"]


_LOG = logging.getLogger("samplerd.transport")


class _Asked(NamedTuple):
    """A request that came."""

    began: float
    """When, in seconds on the monotonic clock."""
    trace: StreamedRequest | None
    """None = its call is not traced."""


class Stream(Generic[Request, Result]):
    """The state of one call."""

    def __init__(
        self,
        call: Call,
        *,
        messages: Messages[Request, Result],
        submit: Callable[[Request, float, float, str], Future[Result]],
        metrics: Metrics,
        reply_bytes: ReplyBytes,
        limit: int,
        log_refusal: Callable[[str, SamplerdError, Any], None] | None = None,
    ) -> None:
        self._call = call
        self._context = call.context
        self._messages = messages
        self._submit = submit
        self._metrics = metrics
        self._limit = limit
        self._log_refusal = log_refusal
        self._record = current_record()
        if self._record is not None:
            self._record.is_stream = True
        self._connection = call.connection
        self._in_flight = 0
        self._replies: set[Future[Result]] = set()
        self._done: deque[tuple[Iterable[bytes], int, Callable[[], None] | None]] = deque()
        """Messages to write, how many bytes they have, and what is called once they are written."""
        self._reply_bytes = reply_bytes
        self._unwritten = 0
        """Bytes of the replies that are not written."""
        self._held = 0
        """As how many bytes they count: none, as long as they are few."""
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
            self._unwritten = 0
            self._settle()
            for *_, written in self._done:
                if written is not None:
                    written()
            self._wake_reader.set()
            if not reader.done():
                # The call is over here; grpcio ends the read by itself, and that frees its memory.
                reader.add_done_callback(ignore_outcome)
        if self._is_draining and not self._is_read:
            message = "the server is draining; open the stream at another one"
            raise UnavailableError(message, retry_after_s=DRAIN_RETRY_S)

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
        trace = None
        if self._record is not None:
            self._record.bytes_in += len(data)
            if self._record.trace is not None:
                trace = self._record.trace.streamed(began)
        asked = _Asked(began, trace)
        try:
            request = self._messages.decode(data)
            if trace is None:
                reply = self._submit(request, began, deadline, self._connection)
            else:
                reply = trace.submit(self._submit, request, began, deadline, self._connection)
        except SamplerdError as error:
            self._fail(self._messages.identify(data), error, asked)
            return
        except Exception:  # noqa: BLE001  # a bug fails this request and not the stream
            _LOG.exception("a request of a stream raised")
            self._fail(self._messages.identify(data), InternalError(), asked)
            return
        self._replies.add(reply)

        def finish(reply: Future[Result]) -> None:
            self._replies.discard(reply)
            if reply.cancelled():
                self._count(Code.CANCELLED, began)
                if trace is not None:
                    trace.end(request.id, Code.CANCELLED)
                return
            error = reply.exception()
            if error is None:
                self._answer(request, reply.result(), asked)
            else:
                self._fail(request.id, error if isinstance(error, SamplerdError) else InternalError(), asked)

        reply.add_done_callback(finish)

    def _answer(self, request: Request, result: Result, asked: _Asked) -> None:
        size = self._messages.size_bytes(result)
        try:
            self._hold(size)
        except SamplerdError as error:
            self._fail(request.id, error, asked)
            return
        self._finish(request.id, self._messages.encode(request, result), OK, asked, size)

    def _hold(self, size: int) -> None:
        """Count a reply until it is written.

        Raises:
            OverloadedError: too many bytes of replies wait to be read.
            ReplyTooLargeError: the reply alone is larger than all that may wait.

        """
        if self._is_over:
            return
        self._unwritten += size
        try:
            self._settle(size)
        except SamplerdError:
            self._unwritten -= size
            raise

    def _give(self, size: int) -> None:
        self._unwritten -= size
        if self._held:
            self._settle()

    def _settle(self, reply: int = 0) -> None:
        """Let the replies that are not written count together, since a stream has many: small ones add up."""
        held = self._unwritten if self._unwritten >= LEAST_BYTES else 0
        if held > self._held:
            self._reply_bytes.take(self._connection, held - self._held, reply=reply)
        elif held < self._held:
            self._reply_bytes.give(self._connection, self._held - held)
        self._held = held

    def _fail(self, request_id: int, error: SamplerdError, asked: _Asked) -> None:
        if self._log_refusal is not None:
            self._log_refusal(self._call.rpc, error, self._context)
        message = self._messages.encode_error(request_id, error, self._call.request_id)
        self._finish(request_id, (message,), error.code, asked)

    def _finish(self, request_id: int, messages: Iterable[bytes], code: Code, asked: _Asked, size: int = 0) -> None:
        written = None if asked.trace is None else partial(asked.trace.end, request_id, code)
        self._done.append((messages, size, written))
        self._wake_writer.set()
        self._count(code, asked.began)

    def put(self, messages: Iterable[bytes], size: int) -> None:
        """Send messages of so many bytes as the next part of a reply that is not complete yet.

        Raises:
            OverloadedError: too many bytes of replies wait to be read.
            ReplyTooLargeError: these alone are larger than all that may wait.

        """
        self._hold(size)
        self._in_flight += 1
        self._done.append((messages, size, None))
        self._wake_writer.set()

    def _count(self, code: Code, began: float) -> None:
        self._metrics.request_answered(self._call.rpc, code, time.monotonic() - began)

    async def _write(self, reader: asyncio.Task[None]) -> None:
        while True:
            while self._done:
                messages, size, written = self._done.popleft()
                try:
                    for message in messages:
                        await self._context.write(message)
                        if self._record is not None:
                            self._record.bytes_out += len(message)
                finally:
                    if written is not None:
                        written()
                self._give(size)
                self._in_flight -= 1
                self._wake_reader.set()
            if self._in_flight == 0 and (self._is_read or self._is_draining):
                return
            if reader.done() and not self._is_read:
                reader.result()  # raises what ended it
            self._wake_writer.clear()
            await self._wake_writer.wait()


def ignore_outcome(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a reader that outlived its call: asyncio warns of one that nobody retrieves."""
    if not task.cancelled():
        task.exception()
