"""One streaming call of any protocol: requests in, replies out in the order of completion.

The reader takes requests as long as fewer than `limit` are in flight; a request stays in flight until its last chunk is
written, so the requests of a client that reads no replies are no longer read. The writer sends whatever is done. A
request that fails is answered with its error, and the stream goes on.

Both take what is there in one go, if the transport can: its context then has `read_many` and `write_many` beside the
interface of grpcio. Otherwise small requests that are read while replies are being written are gathered, and submitted
together once one reply is left to write: nothing could be written earlier, and their rows share a batch.

Rule 1: neither task is ever cancelled while it reads or writes, unless the whole call is: grpcio leaks otherwise. Rule
2: a reply is settled by whoever resolves it, in the middle of a batch: nothing of that waits or raises.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

import grpc.aio

from samplerd_server.core.errors import (
    DRAIN_RETRY_S,
    InternalError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.transport.rpc.answers import Answers
from samplerd_server.transport.rpc.arrival import current_record
from samplerd_server.transport.rpc.outbox import Outbox
from samplerd_server.transport.rpc.stream_messages import Request, Result
from samplerd_server.transport.rpc.stream_reply import StreamReply

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable

    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.codec.joint_requests import JointRequest
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.joins import JoinsRequests
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes
    from samplerd_server.transport.rpc.stream_messages import Messages
    from samplerd_server.transport.rpc.stream_reply import Submit

__all__ = ["Stream", "ignore_outcome"]


_LOG = logging.getLogger("samplerd.transport")
_MOST_GATHERED = 8
"""Requests that are submitted together at the latest: half of what a batch can save is saved by four."""
_SMALL_BYTES = 1 << 14
"""Requests of more bytes are submitted at once: their rows take longer to draw than a batch takes to be formed."""


class Stream(Generic[Request, Result]):
    """The state of one call."""

    def __init__(
        self,
        call: Call,
        *,
        messages: Messages[Request, Result],
        submit: Submit[Request],
        metrics: Metrics,
        reply_bytes: ReplyBytes,
        limit: int,
        log_refusal: Callable[[str, SamplerdError, Any], None] | None = None,
        joins: JoinsRequests | None = None,
    ) -> None:
        self._call = call
        self._context = call.context
        self._messages = messages
        self._submit = submit
        self._limit = limit
        self._joins = joins
        self._record = current_record()
        if self._record is not None:
            self._record.is_stream = True
        self._connection = call.connection
        self._in_flight = 0
        self._deadline = call.deadline
        self._read_many: Any = getattr(call.context, "read_many", None)
        self._gathered: list[StreamReply[Request]] = []
        """Requests that are read and not submitted."""
        self._outbox = Outbox(call, reply_bytes, self._on_written)
        self._answers = Answers(call, messages, self._outbox, metrics=metrics, log_refusal=log_refusal)
        self._reader_waits: Future[None] | None = None
        self._is_read = False
        self._is_draining = False
        self._is_over = False

    def drain(self) -> None:
        """End the call once everything in flight is answered."""
        self._is_draining = True
        self._outbox.wake()

    async def run(self) -> None:
        """Read and write until the client is done, or the server drains.

        Raises:
            UnavailableError: the server drains; the client should go elsewhere.

        """
        reader = asyncio.create_task(self._read(), name="samplerd-stream-reader")
        reader.add_done_callback(lambda _: self._outbox.wake())
        try:
            await self._write(reader)
        except grpc.aio.InternalError as error:
            # grpcio raises this if the client goes away while a message is being written.
            raise asyncio.CancelledError from error
        finally:
            self._is_over = True
            self._gathered.clear()
            for reply in tuple(self._answers.pending):
                reply.cancel()
            self._in_flight = 0
            self._outbox.close()
            self._wake_reader()
            if not reader.done():
                # The call is over here; grpcio ends the read by itself, and that frees its memory.
                reader.add_done_callback(ignore_outcome)
        if self._is_draining and not self._is_read:
            message = "the server is draining; open the stream at another one"
            raise UnavailableError(message, retry_after_s=DRAIN_RETRY_S)

    async def _read(self) -> None:
        read, read_many = self._context.read, self._read_many
        while True:
            if read_many is None:
                data: object = await read()
                if not isinstance(data, bytes):
                    break  # grpc.aio.EOF
                self._accept(data)
            else:
                arrived: list[bytes] = await read_many(self._limit - self._in_flight)
                if not arrived:
                    break
                self._accept_all(arrived)
            while self._in_flight >= self._limit:
                self._reader_waits = asyncio.get_running_loop().create_future()
                await self._reader_waits
            if self._is_over:
                return
        self._is_read = True
        self._outbox.wake()

    def _wake_reader(self) -> None:
        waiter = self._reader_waits
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _accept_all(self, arrived: list[bytes]) -> None:
        """Take in and submit all requests that came together; those alike are joined, unless the stream is traced."""
        began, joins = time.monotonic(), self._joins
        if joins is None or len(arrived) == 1 or (self._record is not None and self._record.trace is not None):
            for message in arrived:
                self._accept(message)
        else:
            for part in joins.join(arrived):
                if isinstance(part, bytes):
                    self._accept(part)
                else:
                    self.submit_gathered()
                    self._accept_joint(joins, part, began)
        self.submit_gathered()

    def _accept_joint(self, joins: JoinsRequests, joint: JointRequest, began: float) -> None:
        reply: StreamReply[Any] = StreamReply(joint, began, partial(self._answers.settle_joint, joins))
        self._answers.pending.add(reply)
        try:
            is_queued = joins.submit(reply, joint, began, self._deadline, self._connection)
        except Exception:  # noqa: BLE001  # a bug, which each of the requests meets by itself
            _LOG.exception("a joint request of a stream raised")
            is_queued = False
        if is_queued:
            self._in_flight += len(joint.ids)
            if self._record is not None:
                self._record.bytes_in += sum(map(len, joint.messages))
            joint.messages.clear()
        else:
            self._answers.pending.discard(reply)
            for message in joint.messages:
                self._accept(message)

    def _accept(self, data: bytes) -> None:
        """Take one request in; its reply, or its error, reaches the writer."""
        began = time.monotonic()
        self._in_flight += 1
        trace = None
        if self._record is not None:
            self._record.bytes_in += len(data)
            if self._record.trace is not None:
                trace = self._record.trace.streamed(began)
        try:
            request = self._messages.decode(data)
        except SamplerdError as error:
            self._answers.fail(self._messages.identify(data), error, began, trace)
            return
        except Exception:  # noqa: BLE001  # a bug fails this request and not the stream
            _LOG.exception("a request of a stream raised")
            self._answers.fail(self._messages.identify(data), InternalError(), began, trace)
            return
        reply = StreamReply(request, began, self._answers.settle, trace)
        self._answers.pending.add(reply)
        self._gathered.append(reply)
        if self._read_many is not None:
            return  # the reader submits all that it was given
        # Parts of long replies may be without end: a request does not wait for them.
        is_kept = len(data) <= _SMALL_BYTES and len(self._outbox) > 1 and not self._outbox.parts
        if not is_kept or len(self._gathered) >= _MOST_GATHERED:
            self.submit_gathered()

    def submit_gathered(self) -> None:
        """Submit the requests that are read and not submitted."""
        gathered, self._gathered = self._gathered, []
        for reply in gathered:
            submit = self._submit if reply.trace is None else partial(reply.trace.submit, self._submit)
            try:
                task = submit(reply, reply.request, reply.began, self._deadline, self._connection)
            except Exception as error:  # noqa: BLE001  # a bug fails this request and not the stream
                if not isinstance(error, SamplerdError):
                    _LOG.exception("a request of a stream raised")
                reply.set_exception(error)
            else:
                if task is not None:
                    reply.follow(task)

    def put(self, messages: Iterable[bytes], size: int) -> None:
        """Send messages of so many bytes, one at a time, as the next part of a reply that is not complete yet.

        Raises:
            OverloadedError: too many bytes of replies wait to be read.
            ReplyTooLargeError: these alone are larger than all that may wait.

        """
        self._outbox.hold(size, size)
        if self._gathered:
            self.submit_gathered()
        self._in_flight += 1
        self._outbox.add(messages, size, is_part=True)

    def _on_written(self, replies: int) -> None:
        """Let the reader go on. While replies are being written it waits until half of the requests are answered."""
        self._in_flight -= replies
        if self._gathered and len(self._outbox) <= 1:
            self.submit_gathered()
        if self._reader_waits is not None and (not self._outbox or self._in_flight <= self._limit // 2):
            self._wake_reader()

    async def _write(self, reader: asyncio.Task[None]) -> None:
        while True:
            await self._outbox.flush()
            if self._in_flight == 0 and (self._is_read or self._is_draining):
                return
            if reader.done() and not self._is_read:
                reader.result()  # raises what ended it
            await self._outbox.wait()


def ignore_outcome(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a reader that outlived its call: asyncio warns of one that nobody retrieves."""
    if not task.cancelled():
        task.exception()
