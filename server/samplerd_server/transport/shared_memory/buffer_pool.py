"""Memory for rows that is used again: what is freed is kept for the next request of its size, up to a bound.

The system's allocator gives memory back after a batch and takes it anew, page by page, which costs up to ten times the
copy into it. Rule 1: a block is free when nobody holds a view of it any more, wherever that happens. Rule 2: the pool
never holds more than its bound; what it has no room for is freed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, TypeAlias

import numpy as np

__all__ = ["BufferPool"]

_Block: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
_WORTH_KEEPING = 64 << 10
"""Bytes; the allocator keeps smaller blocks itself."""
_GRAIN = 64 << 10
"""Sizes are rounded up to it, so that similar requests share blocks."""


class BufferPool:
    """Blocks of memory that wait to be used again. Any thread may free; one takes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, list[_Block]] = OrderedDict()
        self.idle_bytes = 0
        """What it holds now: at most its bound."""

    def take(self, size: int) -> memoryview:
        """Return `size` bytes that hold anything; they are the pool's again when nobody refers to them."""
        if size < _WORTH_KEEPING:
            return np.empty(size, np.uint8).data
        rounded = -(-size // _GRAIN) * _GRAIN
        with self._lock:
            block = self._pop(rounded)
        if block is None:
            block = np.empty(rounded, np.uint8)
        lease = block[:size].view(_Lease)
        lease.pool, lease.block = self, block
        return lease.data

    def give_back(self, block: _Block) -> None:
        """Keep a block that nobody uses; to make room, blocks of the size that was used longest ago are freed."""
        # Never waits: the collector may call this at any point of any thread, even inside `take`.
        if len(block) > self._max_bytes or not self._lock.acquire(blocking=False):
            return
        try:
            size = len(block)
            while self.idle_bytes + size > self._max_bytes:
                oldest = next(iter(self._idle), size)
                if oldest == size:
                    return
                self._pop(oldest)
            self._idle.setdefault(size, []).append(block)
            self._idle.move_to_end(size)
            self.idle_bytes += size
        finally:
            self._lock.release()

    def _pop(self, size: int) -> _Block | None:
        blocks = self._idle.get(size)
        if blocks is None:
            return None
        self.idle_bytes -= size
        block = blocks.pop()
        if not blocks:
            del self._idle[size]
        return block


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """A block while somebody uses it."""

    pool: BufferPool | None = None
    block: _Block

    def __del__(self) -> None:
        if self.pool is not None:
            self.pool.give_back(self.block)
