"""What a stream reads and writes through on grpcio: whatever is there in one go, and no step of a task for a message.

grpcio's core takes one message a read and one a write, and tells the event loop of each. grpc.aio makes a future of
that, and a step of the task that waits for it. Here the end of one read begins the next, and the end of one write the
next, in the very call that tells of it; the stream's tasks are woken for all that has come and for all that has been
written.

All but the last of the messages that are written together may wait in grpcio's buffer, so that they leave with the
last: one call of the system for all of them. The buffer is bounded by grpcio.

Rule 1: what is used here are names of grpcio's own, which a later version may change: this module then cannot be
imported, and streams do without it. Rule 2: nothing is begun once the handler has ended: grpcio frees its call. Rule 3:
no more is read than the stream asked for, and little of that before the stream takes it. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from grpc._cython import cygrpc

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from grpc.aio import ServicerContext

__all__ = ["StreamContext"]

_LOG = logging.getLogger("samplerd.transport")
_Context = cygrpc._ServicerContext  # noqa: SLF001
_execute_batch, _SendMessage = cygrpc.execute_batch, cygrpc.SendMessageOperation
_BUFFER_HINT = 1
"""gRPC's GRPC_WRITE_BUFFER_HINT: the message may wait for the next one without it."""
_MOST_HELD = 8
"""Requests that are handed to the stream at the latest: half of what a batch can save is saved by four."""
_SMALL_BYTES = 1 << 14
"""Messages of more bytes wait for no other: their rows take longer to draw than a batch takes to be formed."""
_AHEAD_BYTES = 1 << 20
"""Nothing more is read while as many bytes wait for the stream to take them."""


class _Operation:
    """An operation of a call, one at a time: the event loop and the future that grpcio's coroutines ask for."""

    __slots__ = ("_coroutine", "_end", "_error", "_is_over", "_loop", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[Any, BaseException | None], None]) -> None:
        """Take the loop of this thread, and what is told what the operation returned or raised."""
        self._loop = loop
        self._thread = get_ident()
        self._end = end
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._is_over = False
        self._error: BaseException | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine of grpcio's that waits for this."""
        self._coroutine, self._is_over, self._error = coroutine, False, None
        self._step()

    def _step(self) -> None:
        coroutine = self._coroutine
        assert coroutine is not None, "grpcio ended an operation twice. This is a bug."
        try:
            coroutine.send(None)
        except StopIteration as done:
            value, error = done.value, None
        except BaseException as raised:  # noqa: BLE001  # the stream raises it
            value, error = None, raised
        else:
            return
        self._coroutine = None
        try:
            self._end(value, error)
        except Exception:  # noqa: BLE001  # grpcio, which calls this, would lose it
            _LOG.exception("an operation of a stream could not be ended")

    # What grpcio asks of an event loop.

    def create_future(self) -> Self:
        """Give what is told of the operation's end."""
        return self

    def call_soon_threadsafe(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call something now: grpcio does this on the event loop, unless others of the process use it too."""
        if get_ident() == self._thread:
            callback(*arguments)
        else:
            self._loop.call_soon_threadsafe(callback, *arguments)

    # What it asks of a future.

    def cancelled(self) -> bool:
        """Whether nobody waits, which never is so."""
        return False

    def set_result(self, _result: object) -> None:
        """Take note that the operation has ended."""
        self._is_over = True
        self._step()

    def set_exception(self, error: BaseException) -> None:
        """Take note that the operation has failed."""
        self._is_over, self._error = True, error
        self._step()

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> None:
        if self._error is not None:
            raise self._error
        if self._is_over:
            raise StopIteration


class StreamContext:
    """The context of one call: grpc.aio's, with `read_many` and `write_many`."""

    def __init__(self, context: ServicerContext[bytes, bytes], call: object) -> None:
        """Take grpc.aio's context and grpcio's call."""
        self._context: Any = context
        self._call: Any = call
        self._loop = asyncio.get_running_loop()
        self._read_operation = _Operation(self._loop, self._on_read)
        self._write_operation = _Operation(self._loop, self._on_written)
        self._reads: Any = _Context(call, None, None, self._read_operation)
        self._writes: Any = _Context(call, None, None, self._write_operation)
        self._is_reading = False
        self._came: deque[bytes] = deque()
        self._came_bytes = 0
        self._room = 0
        """Messages that may be read before the stream takes those that came."""
        self._read_error: BaseException | None = None
        self._is_read = False
        """Whether the client will send nothing more."""
        self._reader: asyncio.Future[None] | None = None
        self._to_write: deque[bytes] = deque()
        self._writer: asyncio.Future[None] | None = None
        self._has_written = False
        """Whether a message has been written, and so the initial metadata."""
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def close(self) -> None:
        """Begin nothing more, and let go of the call: the handler has ended."""
        self._is_closed = True
        self._to_write.clear()
        self._came.clear()
        self._context = self._call = self._reads = self._writes = None

    async def read_many(self, most: int) -> list[bytes]:
        """Wait for messages; give those that have come, no more than `most`; none = the client sends no more.

        While small messages are written, small ones that come are kept, since nothing could be written earlier.

        Raises:
            BaseError: of grpcio: the call is over.

        """
        self._room = most
        self._begin_read()
        while not self._are_due():
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        came = self._came
        if not came and self._read_error is not None:
            raise self._read_error
        taken = [came.popleft() for _ in range(min(most, len(came)))]
        self._came_bytes -= sum(map(len, taken))
        self._room -= len(taken)
        self._begin_read()
        return taken

    def _are_due(self) -> bool:
        """Whether what has come is to be handed over."""
        came = len(self._came)
        if self._is_read or came >= min(_MOST_HELD, self._room):
            return True
        return bool(came) and (self._writer is None or self._came_bytes > _SMALL_BYTES)

    def _begin_read(self) -> None:
        """Read the next message, unless one is being read or nobody has room for it."""
        if self._is_reading or self._is_read or self._is_closed:
            return
        if len(self._came) < self._room and self._came_bytes < _AHEAD_BYTES:
            self._is_reading = True
            self._read_operation.run(self._reads.read())

    def _on_read(self, message: object, error: BaseException | None) -> None:
        self._is_reading = False
        if isinstance(message, bytes):
            self._came.append(message)
            self._came_bytes += len(message)
            self._begin_read()
        else:
            self._is_read, self._read_error = True, error
        self._wake_reader()

    def _wake_reader(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done() and self._are_due():
            reader.set_result(None)

    async def write_many(self, messages: list[bytes]) -> None:
        """Write messages, at least one, one after the other.

        Raises:
            BaseError: of grpcio: the client has gone, or the call is over.

        """
        self._to_write.extend(messages)
        self._writer = self._loop.create_future()
        self._write_next()
        try:
            await self._writer
        finally:
            self._writer = None
            self._to_write.clear()
            self._wake_reader()

    def _write_next(self) -> None:
        message = self._to_write.popleft()
        if self._to_write and self._has_written:
            operation = _SendMessage(message, _BUFFER_HINT)
            self._write_operation.run(_execute_batch(self._call, (operation,), self._write_operation))
        else:  # grpcio sends the initial metadata before the first
            self._has_written = True
            self._write_operation.run(self._writes.write(message))

    def _on_written(self, _result: object, error: BaseException | None) -> None:
        writer = self._writer
        if writer is None or writer.done():
            return
        if error is not None:
            writer.set_exception(error)
        elif self._to_write:
            self._write_next()
        else:
            writer.set_result(None)
