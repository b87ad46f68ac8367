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
from collections import deque
from typing import TYPE_CHECKING, Any

from grpc._cython import cygrpc

from samplerd_server.transport.grpcio.batches import Operation, begin

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

__all__ = ["StreamContext"]

_Context = cygrpc._ServicerContext  # noqa: SLF001
_SendMessage, _BatchError = cygrpc.SendMessageOperation, cygrpc.ExecuteBatchError
_BUFFER_HINT = 1
"""gRPC's GRPC_WRITE_BUFFER_HINT: the message may wait for the next one without it."""
_MOST_HELD = 8
"""Requests that are handed to the stream at the latest: half of what a batch can save is saved by four."""
_SMALL_BYTES = 1 << 14
"""Messages of more bytes wait for no other: their rows take longer to draw than a batch takes to be formed."""
_AHEAD_BYTES = 1 << 20
"""Nothing more is read while as many bytes wait for the stream to take them."""


class StreamContext:
    """The context of one call: grpc.aio's, with `read_many` and `write_many`."""

    def __init__(self, context: ServicerContext[bytes, bytes], call: object) -> None:
        """Take grpc.aio's context and grpcio's call."""
        self._context: Any = context
        self._call: Any = call
        self._loop = asyncio.get_running_loop()
        self._read_operation = Operation(self._loop, self._on_read)
        self._write_operation = Operation(self._loop, self._on_written)
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
        else:  # a read that fails is the end of messages, as to grpcio
            self._is_read, self._read_error = True, None if isinstance(error, _BatchError) else error
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
            self._write_operation.run(begin(self._call, (operation,), self._write_operation))
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
