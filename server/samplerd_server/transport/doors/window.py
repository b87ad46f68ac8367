"""The window: the arena of a door, as the engine sees it. Rows are read where they lie.

Rule 1: a block is lent for as long as any view of its bytes exists: the batch that is drawn from keeps its rows alive.
Rule 2: the memory stays mapped until the last view is gone, even if the door has died.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from typing import Any

import numpy as np

from samplerd_server.core.buffers import address_of

__all__ = ["Window"]


class _Loan(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of one block; its offset is noted when it is collected."""

    __slots__ = ("offset", "returned")
    offset: int
    returned: deque[int]

    def __del__(self) -> None:
        if hasattr(self, "offset"):  # a view of a view has none
            self.returned.append(self.offset)


class Window:
    """The memory of one door."""

    def __init__(self, descriptor: int) -> None:
        """Map it, and close the descriptor.

        Raises:
            OSError: it cannot be mapped.

        """
        try:
            self._array = np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), np.uint8)
        finally:
            os.close(descriptor)
        self._address = address_of(self._array)
        self._returned: deque[int] = deque()
        """Offsets of blocks that nobody reads any more: appended by any thread."""
        self._lent = 0

    @property
    def has_loans(self) -> bool:
        """Whether a block is lent, or was given back and not told to the door yet."""
        return self._lent > 0

    def lend(self, offset: int, size: int) -> tuple[memoryview, int]:
        """Give the bytes of a block, and the address of the first."""
        loan = self._array[offset : offset + size].view(_Loan)
        loan.returned, loan.offset = self._returned, offset
        self._lent += 1
        return loan.data, self._address + offset

    def take_returned(self) -> list[int]:
        """Give the offsets of the blocks that nobody reads any more, once each."""
        offsets = []
        while self._returned:
            offsets.append(self._returned.popleft())
        self._lent -= len(offsets)
        return offsets
