"""A pool of buffers for rows: a freed buffer stays in the pool for the next request of its size, up to a bound.

The system's allocator would return the memory after each batch and fault it in again, page by page, which takes up to
ten times as long as the copy into it. Rule 1: a block is free once no view of it exists, on whichever thread that
happens. Rule 2: the pool never holds more than its bound; a block beyond it is freed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, TypeAlias

import numpy as np

__all__ = ["BufferPool"]

_Block: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
_WORTH_KEEPING = 64 << 10
"""Bytes; the allocator reuses smaller blocks itself."""
_GRAIN = 64 << 10
"""Sizes are rounded up to a multiple of this, so that similar requests share blocks."""


class BufferPool:
    """Idle blocks of memory. Any thread may give one back; one thread takes them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, list[_Block]] = OrderedDict()
        self._idle_bytes = 0

    @property
    def idle_bytes(self) -> int:
        """Bytes of all idle blocks: at most the bound."""
        return self._idle_bytes

    def lease(self, size: int) -> memoryview:
        """Give `size` bytes with arbitrary content; they return to the pool when the last view of them is gone."""
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
        """Put a block back; to make room, blocks of the least recently used size are freed."""
        # Must not wait for the lock: the garbage collector may call this anywhere, even inside `lease`.
        if len(block) > self._max_bytes or not self._lock.acquire(blocking=False):
            return
        try:
            size = len(block)
            while self._idle_bytes + size > self._max_bytes:
                oldest = next(iter(self._idle), size)
                if oldest == size:
                    return
                self._pop(oldest)
            self._idle.setdefault(size, []).append(block)
            self._idle.move_to_end(size)
            self._idle_bytes += size
        finally:
            self._lock.release()

    def _pop(self, size: int) -> _Block | None:
        blocks = self._idle.get(size)
        if blocks is None:
            return None
        self._idle_bytes -= size
        block = blocks.pop()
        if not blocks:
            del self._idle[size]
        return block


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """A block in use; it goes back to the pool when it is collected."""

    pool: BufferPool | None = None
    block: _Block

    def __del__(self) -> None:
        if self.pool is not None:
            self.pool.give_back(self.block)
