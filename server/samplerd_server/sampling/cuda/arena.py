"""Memory that was allocated once, in slots of 256 bytes, of which batches take some and give them back.

Rule 1: the first gap that is large enough is taken, so that what comes and goes stays at the front. Rule 2: any thread
may call: one takes while another gives back.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from samplerd_server.sampling.cuda.card import OutOfCardMemoryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SLOT", "Arena"]

SLOT = 256
"""Bytes: what a slot begins at suits every load of a kernel, as the driver's own memory does."""


class Arena:
    """A range of addresses, of which parts are taken."""

    def __init__(self, address: int, size: int) -> None:
        """Make it free; address and size, in bytes, are multiples of `SLOT`."""
        assert address % SLOT == size % SLOT == 0, "an arena does not begin or end with a slot. This is a bug."
        self.address = address
        self.size = size
        self._free = [(address, address + size)] if size else []
        """The gaps, ascending: first address, and the one behind the last."""
        self._taken: dict[int, int] = {}
        self._lock = threading.Lock()
        self.used_bytes = 0
        """Bytes of slots that are taken."""

    def take(self, size: int) -> int:
        """Take memory of so many bytes; returns its address.

        Raises:
            OutOfCardMemoryError: no gap is as large.

        """
        whole = -(-max(size, 1) // SLOT) * SLOT
        with self._lock:
            for at, (begin, end) in enumerate(self._free):
                if end - begin >= whole:
                    self._free[at : at + 1] = [(begin + whole, end)] if end - begin > whole else []
                    self._taken[begin] = whole
                    self.used_bytes += whole
                    return begin
        raise OutOfCardMemoryError(f"no {whole} bytes are left of {self.size}")

    def has(self, address: int) -> bool:
        """Tell whether an address lies in it."""
        return self.address <= address < self.address + self.size

    def holds(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of some addresses lie in it: bool[N]."""
        own: NDArray[np.bool_] = (addresses >= self.address) & (addresses < self.address + self.size)
        return own

    def give_back(self, address: int) -> None:
        """Give memory back, by the address that `take` returned."""
        with self._lock:
            begin, size = address, self._taken.pop(address)
            end = begin + size
            self.used_bytes -= size
            at = bisect_left(self._free, (begin, end))
            if at < len(self._free) and self._free[at][0] == end:
                end = self._free.pop(at)[1]
            if at and self._free[at - 1][1] == begin:
                begin = self._free.pop(at - 1)[0]
            insort(self._free, (begin, end))
