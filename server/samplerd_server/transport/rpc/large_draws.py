"""Draws of any size from a distribution, chunk by chunk, as their client reads them.

To the queue and below, a chunk is a request of its own: some rows, or some draws of one row. A draw of any size
therefore takes the memory of one chunk, or of two where one is written while the next is drawn; it stops when its
client stops reading, and lets small requests be drawn between its chunks. Event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from samplerd_server.batching.parts import draws_part, rows_part
from samplerd_server.core.errors import OverloadedError
from samplerd_server.transport.codec.encode import encode_part

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.result import SampleResult

__all__ = ["LargeDraws", "parts"]

_AHEAD = 2
"""Chunks of one draw in memory on a stream of many requests: one is written while the next is drawn."""
_AT_DEVICE = 2
"""Chunks of all large draws that are queued or drawn at a time: one is drawn and one follows it. A small request waits
for at most these two, however many large draws there are."""


class _Submits(Protocol):
    def __call__(
        self, part: SampleRequest, deadline: float, connection: str, *, is_first: bool
    ) -> Future[SampleResult]: ...


class LargeDraws:
    """Runs the large draws of one server."""

    def __init__(self, submit: _Submits, chunk_samples: int) -> None:
        self._submit = submit
        self._chunk_samples = chunk_samples
        self._turns = asyncio.Semaphore(_AT_DEVICE)

    async def run(
        self, request: SampleRequest, put: Callable[[Iterable[bytes], int], None], deadline: float, connection: str
    ) -> None:
        """Draw a request chunk by chunk, and pass each to `put`, which sends it. Cancel it when nobody reads any more.

        Raises:
            SamplerdError: it was not admitted, the deadline passed, or `put` has no room for a chunk.

        """
        room = asyncio.Semaphore(_AHEAD)

        def until_written(message: bytes) -> Iterator[bytes]:
            yield message
            room.release()  # the writer asks for the next message once it has written this one

        drawn = 0
        for chunk, part in enumerate(parts(request, self._chunk_samples)):
            await room.acquire()
            result = await self._draw(part, chunk, deadline, connection)
            drawn += part.samples
            message = encode_part(request, result, chunk, is_last=drawn == request.samples)
            try:
                put(until_written(message), len(message))
            except OverloadedError:
                if chunk == 0:
                    raise
                # There is room again once the chunk before it is written, if it is this draw that holds the room.
                await room.acquire()
                put(until_written(message), len(message))
                room.release()

    async def chunks(self, request: SampleRequest, deadline: float, connection: str) -> AsyncGenerator[bytes, None]:
        """Yield the encoded chunks of a request in order; each is drawn when it is asked for.

        Raises:
            SamplerdError: it was not admitted, or the deadline passed.

        """
        drawn = 0
        for chunk, part in enumerate(parts(request, self._chunk_samples)):
            result = await self._draw(part, chunk, deadline, connection)
            drawn += part.samples
            yield encode_part(request, result, chunk, is_last=drawn == request.samples)

    async def _draw(self, part: SampleRequest, chunk: int, deadline: float, connection: str) -> SampleResult:
        async with self._turns:
            return await self._submit(part, deadline, connection, is_first=chunk == 0)


def parts(request: SampleRequest, chunk_samples: int) -> Iterator[SampleRequest]:
    """Cut a request into parts of at most `chunk_samples` samples, which draw one after the other what it draws.

    A part is some draws of one row, or else whole rows.
    """
    rows, draws = request.rows, request.num_samples
    if draws >= chunk_samples:
        for row in range(rows):
            for begin in range(0, draws, chunk_samples):
                yield draws_part(request, row, begin, min(chunk_samples, draws - begin))
    else:
        step = chunk_samples // draws
        for row in range(0, rows, step):
            yield rows_part(request, row, min(row + step, rows))
