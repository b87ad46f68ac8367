"""A scrape in pieces, so that calls wait for one piece of it at most.

Whoever reads and writes hundreds of series holds Python's lock meanwhile, and a call that needs it waits. Rule: after
each piece of work, `rest` lets go of the lock for so long that a thread that waits for it gets it. `time.sleep(0)` does
not: the same thread takes the lock again before the other one has woken up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["GAUGE", "SERIES", "pieces", "rest", "rested"]

SERIES = 128
"""Series in a piece: some 0.1 ms of reading or writing."""
GAUGE = 16
"""Series whose reading takes what that of one gauge does, which asks whoever knows."""
_REST_S = 1e-4
_T = TypeVar("_T")


def rest() -> None:
    """Let other threads run."""
    time.sleep(_REST_S)


def pieces(count: int, *, size: int = SERIES) -> Iterator[slice]:
    """Divide this many things into slices, and rest between two of them."""
    for begin in range(0, count, size):
        if begin:
            rest()
        yield slice(begin, begin + size)


def rested(things: Iterable[_T], sizes: Sequence[int], *, size: int = SERIES) -> Iterator[_T]:
    """Give things, and rest before one with which those since the last rest would be more than a piece."""
    done = 0
    for thing, own in zip(things, sizes, strict=True):
        if done and done + own > size:
            rest()
            done = 0
        yield thing
        done += own
