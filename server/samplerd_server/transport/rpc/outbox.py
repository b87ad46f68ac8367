"""The replies of one stream that are made and not written: their order, their bytes, and how they are written.

What the transport can write in one go is written in one go: all small replies that are there. Runs on the event loop;
one task writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from samplerd_server.core.errors import SamplerdError
from samplerd_server.transport.rpc.arrival import current_record
from samplerd_server.transport.rpc.reply_bytes import LEAST_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes

__all__ = ["Outbox"]

_TOGETHER_BYTES = 1 << 16
"""Messages are written together until they have this many bytes: one more copy of so few costs less than a write."""


class _WritesMany(Protocol):
    """What the context of some transports has beside the interface of grpcio."""

    def __call__(self, messages: list[bytes], /) -> Awaitable[None]:
        """Send messages, one after the other."""
        ...


class _Entry(NamedTuple):
    """A reply, or a part of one."""

    messages: Iterable[bytes]
    size: int
    """Bytes that it holds."""
    is_part: bool
    """Whether it is written apart from others."""
    written: Callable[[], None] | None
    """What is called once it is written."""
    replies: int
    """How many replies it is: several that were drawn as one are written as one."""


class Outbox:
    """The replies of one call."""

    def __init__(self, call: Call, reply_bytes: ReplyBytes, on_written: Callable[[int], None]) -> None:
        """Take the call, the bound of all replies, and what is told how many replies have been written."""
        self._connection = call.connection
        self._write = call.context.write
        self._write_many: _WritesMany | None = getattr(call.context, "write_many", None)
        self._record = current_record()
        self._on_written = on_written
        self._done: deque[_Entry] = deque()
        self.parts = 0
        """Parts of long replies that are not written."""
        self._reply_bytes = reply_bytes
        self._unwritten = 0
        """Bytes of the replies that are not written."""
        self._writing = 0
        """Most bytes beside those while one of their messages is written."""
        self._held = 0
        """As how many bytes they count: none, as long as they are few."""
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """Count the replies that are not begun to be written, joint ones once."""
        return len(self._done)

    def hold(self, size: int, writing: int) -> None:
        """Count a reply until it is written.

        Args:
            size: bytes that it holds.
            writing: most bytes beside those while one of its messages is written; one message is written at a time.

        Raises:
            OverloadedError: too many bytes of replies wait to be read.
            ReplyTooLargeError: the reply alone is larger than all that may wait.

        """
        if self._is_closed:
            return
        before = self._writing
        self._unwritten += size
        self._writing = max(before, writing)
        try:
            self._settle(size + writing)
        except SamplerdError:
            self._unwritten -= size
            self._writing = before
            raise

    def add(
        self,
        messages: Iterable[bytes],
        size: int = 0,
        *,
        is_part: bool = False,
        written: Callable[[], None] | None = None,
        replies: int = 1,
    ) -> None:
        """Write these messages after those before them.

        Args:
            messages: each is asked for once the one before it is written, if they are a part; otherwise a little ahead.
            size: bytes that they hold, which `hold` counts.
            is_part: whether they are a part of a long reply.
            written: called once they are written, or nobody reads them.
            replies: how many replies they are.

        """
        self._done.append(_Entry(messages, size, is_part, written, replies))
        self.parts += is_part
        self.wake()

    def wake(self) -> None:
        """Let the writer look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until something is to be written, or `wake` is called."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def flush(self) -> None:
        """Write until nothing is left."""
        done = self._done
        while done:
            if self._write_many is None or done[0][2]:
                await self._write_next()
            else:
                await self._write_together(self._write_many)

    async def _write_next(self) -> None:
        messages, size, is_part, written, replies = self._done.popleft()
        try:
            for message in messages:
                await self._write(message)
                if self._record is not None:
                    self._record.bytes_out += len(message)
        finally:
            messages = ()  # the error that ends a call may keep this frame
            if written is not None:
                written()
        self.parts -= is_part
        self._give(size)
        self._on_written(replies)

    async def _write_together(self, write_many: _WritesMany) -> None:
        """Write small replies in one go, and a long one in as many as it takes."""
        batch: list[bytes] = []
        replies = held = length = 0
        has_written = False
        called: list[Callable[[], None]] = []
        try:
            while self._done and not self._done[0][2] and not has_written:
                messages, size, _, written, own = self._done.popleft()
                replies += own
                held += size
                if written is not None:
                    called.append(written)
                for message in messages:
                    batch.append(message)
                    length += len(message)
                    if length >= _TOGETHER_BYTES:
                        await self._send(write_many, batch, length)
                        batch, length, has_written = [], 0, True
            if batch:
                await self._send(write_many, batch, length)
        finally:
            messages, batch = (), []  # as above
            for one in called:
                one()
        self._give(held)
        self._on_written(replies)

    async def _send(self, write_many: _WritesMany, batch: list[bytes], length: int) -> None:
        await write_many(batch)
        if self._record is not None:
            self._record.bytes_out += length

    def close(self) -> None:
        """Hold and count no reply any more: the call is over."""
        self._is_closed = True
        self._unwritten = 0
        self._settle()
        left = tuple(self._done)
        self._done.clear()
        for entry in left:
            if entry.written is not None:
                entry.written()

    def _give(self, size: int) -> None:
        self._unwritten -= size
        if self._held or not self._unwritten:
            self._settle()

    def _settle(self, reply: int = 0) -> None:
        """Let the replies that are not written count together, since a stream has many: small ones add up."""
        if not self._unwritten:
            self._writing = 0
        held = self._unwritten + self._writing if self._unwritten >= LEAST_BYTES else 0
        if held > self._held:
            self._reply_bytes.take(self._connection, held - self._held, reply=reply)
        elif held < self._held:
            self._reply_bytes.give(self._connection, self._held - held)
        self._held = held
