"""Draws of any size from a distribution, chunk by chunk: a chunk is drawn once the one before the last is written.

To the queue and below, a chunk is a request of its own: some rows, or some draws of one row. A draw of any size
therefore takes the memory of two chunks, stops when its client stops reading, and lets small requests be drawn between
its chunks. Event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from samplerd_server.core.rows import StoredRows
from samplerd_server.transport.codec.encode import encode_part

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable, Iterator

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.result import SampleResult

__all__ = ["LargeDraws", "parts"]

_AHEAD = 2
"""Chunks of one draw in memory: one is written while the next is drawn."""
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
        self, request: SampleRequest, put: Callable[[Iterable[bytes]], None], deadline: float, connection: str
    ) -> None:
        """Draw a request chunk by chunk, and pass each to `put`, which sends it. Cancel it when nobody reads any more.

        Raises:
            SamplerdError: it was not admitted, or the deadline passed.

        """
        room = asyncio.Semaphore(_AHEAD)

        def until_written(message: bytes) -> Iterator[bytes]:
            yield message
            room.release()  # the writer asks for the next message once it has written this one

        drawn = 0
        for chunk, part in enumerate(parts(request, self._chunk_samples)):
            await room.acquire()
            async with self._turns:
                result = await self._submit(part, deadline, connection, is_first=chunk == 0)
            drawn += part.samples
            put(until_written(encode_part(request, result, chunk, is_last=drawn == request.samples)))


def parts(request: SampleRequest, chunk_samples: int) -> Iterator[SampleRequest]:
    """Cut a request into parts of at most `chunk_samples` samples, which draw one after the other what it draws.

    A part is some draws of one row, or else whole rows.
    """
    rows, draws = request.rows, request.num_samples
    if draws >= chunk_samples:
        for row in range(rows):
            for begin in range(0, draws, chunk_samples):
                yield _part(request, row, row + 1, begin, min(chunk_samples, draws - begin))
    else:
        step = chunk_samples // draws
        for row in range(0, rows, step):
            yield _part(request, row, min(row + step, rows), 0, draws)


def _part(request: SampleRequest, begin: int, end: int, first_draw: int, draws: int) -> SampleRequest:
    source, params = request.source, request.params
    assert isinstance(source, StoredRows), "rows that do not stay are drawn from part by part. This is a bug."
    own = params if len(params) == 1 else params[begin:end]
    greedy = own[0].is_greedy * (end - begin) if len(own) == 1 else sum(each.is_greedy for each in own)
    rows = source.part(begin, end)
    # Without a CDF index, each part reads its rows again.
    reading = rows.size_bytes if request.cdf_index is None else 0
    return replace(
        request,
        source=rows,
        params=own,
        num_samples=draws,
        row_seeds=None if request.row_seeds is None else request.row_seeds[begin:end],
        draw_offset=request.draw_offset + first_draw,
        first_row=request.first_row + begin,
        greedy_rows=greedy,
        work=request.work * (end - begin) * draws // request.samples + reading,
    )
