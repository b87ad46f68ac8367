"""The arena: memory that a door shares with the engine, into which the rows of its requests are copied once.

It is a file without a name (memfd), so that nothing of it is left behind, however the two processes end. It is as large
as it may ever become, but only pages that were written to take memory. Blocks are halves of halves of it (buddies), in
sizes of a power of two; a freed block stays in the list of its size, where the next request of that size finds it with
its pages in place. Rule 1: on the event loop, except for `give`, which any thread may call. Rule 2: the engine only
reads. Rule 3: pages of large blocks beyond `_KEEP_BYTES` go back to the system when they are freed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.errors import OverloadedError

if TYPE_CHECKING:
    from samplerd_server.core.entity import Buffer

__all__ = ["Arena", "Lease", "arena_bytes"]

_LEAST_ORDER = 8
"""The smallest block has 256 bytes."""
_LARGE_ORDER = 20
"""From a MiB on, giving the pages of a block back costs less than keeping them."""
_KEEP_BYTES = 128 << 20
"""Bytes of free large blocks whose pages are kept: enough for a full batch of large rows."""
_RETRY_S = 0.05


def arena_bytes(queue_bytes: int, message_bytes: int) -> int:
    """Give the size of an arena: four times what may wait, for blocks are rounded up, and in use while drawn from."""
    return 1 << max(4 * queue_bytes, 4 * message_bytes, 1 << 20).bit_length()


class Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """A block in use by this process; it is given back when it is collected."""

    arena: Arena | None = None
    offset: int

    def __del__(self) -> None:
        if self.arena is not None:
            self.arena.give(self.offset)


class Arena:
    """The memory, and which of it is free."""

    def __init__(self, size: int) -> None:
        """Map `size` bytes, a power of two.

        Raises:
            OSError: the system has no room for it.

        """
        self.size = size
        self.descriptor = os.memfd_create("samplerd-door", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        """What the engine maps too."""
        os.ftruncate(self.descriptor, size)
        # So that the engine can never read beyond its end, which would kill it.
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self._map = mmap.mmap(self.descriptor, size)
        self._bytes = memoryview(self._map)
        self._array = np.frombuffer(self._map, np.uint8)
        self._free: list[list[int]] = [[] for _ in range(size.bit_length())]
        self._free[-1].append(0)
        self._orders: dict[int, int] = {}
        """Order by offset of every block in use."""
        self._given: deque[int] = deque()
        """Blocks that were given back and are not in the lists yet."""
        self._idle_bytes = 0
        """Bytes of free large blocks whose pages are in place."""
        self._is_warm: set[int] = set()
        """Offsets of those blocks."""

    @property
    def blocks(self) -> int:
        """Blocks in use."""
        return len(self._orders) - len(self._given)

    @property
    def idle_bytes(self) -> int:
        """Bytes of free large blocks that are kept for the next requests."""
        return self._idle_bytes

    def take(self, size: int) -> int:
        """Give the offset of a free block of at least `size` bytes, with arbitrary content.

        Raises:
            OverloadedError: there is none.

        """
        if self._given:
            self._collect()
        order = max(_LEAST_ORDER, (size - 1).bit_length())
        if order >= len(self._free):
            raise _full()
        free = self._free[order]
        offset = free.pop() if free else self._split(order)
        if offset in self._is_warm:
            self._is_warm.discard(offset)
            self._idle_bytes -= 1 << order
        self._orders[offset] = order
        return offset

    def put(self, data: Buffer) -> int:
        """Copy bytes into a free block; returns its offset.

        Raises:
            OverloadedError: there is none.

        """
        size = len(data)
        offset = self.take(size)
        self._bytes[offset : offset + size] = data
        return offset

    def give(self, offset: int) -> None:
        """Give a block back. Any thread may."""
        self._given.append(offset)

    def lease(self, size: int) -> memoryview:
        """Give `size` bytes to write into; the block is given back when the last view of them is gone.

        Raises:
            OverloadedError: there is no such block.

        """
        offset = self.take(size)
        own = self._array[offset : offset + size].view(Lease)
        own.arena, own.offset = self, offset
        return own.data

    def _collect(self) -> None:
        """Put the blocks that were given back into the lists."""
        while self._given:
            offset = self._given.popleft()
            order = self._orders.pop(offset)
            self._free[order].append(offset)
            if order >= _LARGE_ORDER:
                self._keep(offset, 1 << order)

    def _keep(self, offset: int, size: int) -> None:
        if self._idle_bytes + size > _KEEP_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, offset, size)
        else:
            self._is_warm.add(offset)
            self._idle_bytes += size

    def _split(self, order: int) -> int:
        """Make a block of this order out of a larger one.

        Raises:
            OverloadedError: none is free.

        """
        larger = self._larger(order)
        if larger is None:
            self._join()
            larger = order if self._free[order] else self._larger(order)
            if larger is None:
                raise _full()
        offset = self._free[larger].pop()
        if larger > order and offset in self._is_warm:
            self._is_warm.discard(offset)
            self._idle_bytes -= 1 << larger
        while larger > order:
            larger -= 1
            self._free[larger].append(offset + (1 << larger))
        return offset

    def _larger(self, order: int) -> int | None:
        return next((above for above in range(order + 1, len(self._free)) if self._free[above]), None)

    def _join(self) -> None:
        """Join free buddies to larger blocks, as far as possible."""
        self._is_warm.clear()
        self._idle_bytes = 0
        for order in range(_LEAST_ORDER, len(self._free) - 1):
            free = set(self._free[order])
            pairs = [offset for offset in free if not offset >> order & 1 and offset + (1 << order) in free]
            if pairs:
                self._free[order + 1] += pairs
                self._free[order] = list(free.difference(pairs, (offset + (1 << order) for offset in pairs)))


def _full() -> OverloadedError:
    return OverloadedError("the memory for rows on their way is full", reason="queue_bytes", retry_after_s=_RETRY_S)
