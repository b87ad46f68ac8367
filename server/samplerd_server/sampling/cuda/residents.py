"""Rows of uploaded distributions that stay on the card, so that a draw from them copies nothing.

A row is kept when it is first drawn from. Rule 1: memory of a distribution is known by its generation, which ends when
the memory is freed; a finalizer only notes that, since it may run anywhere, and whatever looks for rows acts on it
first. So memory at the same address that holds something else is never mistaken for it. Rule 2: rows that a batch uses
are not freed before the card has passed it. Rule 3: they take a share of the arena; those not used longest go first.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right, insort
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from samplerd_server.sampling.cuda.arena import Arena
from samplerd_server.sampling.cuda.card import OutOfCardMemoryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Resident", "Residents"]


class Resident:
    """A row on the card."""

    __slots__ = ("address", "generation", "is_dropped", "key", "users")

    def __init__(self, address: int, key: tuple[int, int], generation: int) -> None:
        self.address = address
        """In device memory."""
        self.key = key
        """Its address and size in the host's memory."""
        self.generation = generation
        self.users = 0
        """Batches that the card has and that use it."""
        self.is_dropped = False
        """Whether it is freed once nobody uses it."""


class Residents:
    """The rows that are kept. Any thread may call."""

    def __init__(self) -> None:
        self._arena = Arena(0, 0)
        self._limit_bytes = 0
        self._lock = threading.Lock()
        self._spans: list[tuple[int, int, int]] = []
        """Memory of distributions, ascending: first address, the one behind the last, and the generation."""
        self._generations = 0
        self._freed: deque[tuple[int, int, int]] = deque()
        self._rows: OrderedDict[tuple[int, int], Resident] = OrderedDict()
        """By address and size in the host's memory; the one not used longest is first."""
        self.used_bytes = 0

    def start(self, arena: Arena, limit_bytes: int) -> None:
        """Keep rows from now on, in at most so many bytes of an arena."""
        self._arena = arena
        self._limit_bytes = limit_bytes

    def note(self, memory: NDArray, rows: NDArray) -> None:  # type: ignore[type-arg]  # bytes of any kind
        """Take note of the rows of a distribution, which lie within `memory` and live as long as it does."""
        begin = rows.ctypes.data
        with self._lock:
            self._drop_freed()
            self._generations += 1
            span = begin, begin + rows.nbytes, self._generations
            insort(self._spans, span)
        weakref.finalize(memory, self._freed.append, span).atexit = False

    def use(self, address: int, size: int) -> Resident | None:
        """Find a row by where it lies in the host's memory, for a batch that will `release` it; None = not kept."""
        if not self._rows:
            return None
        with self._lock:
            self._drop_freed()
            own = self._rows.get((address, size))
            if own is not None:
                own.users += 1
                self._rows.move_to_end((address, size))
            return own

    def keep(self, address: int, size: int) -> Resident | None:
        """Make room for a row that is to be copied, for a batch that will `release` it; None = it is not kept.

        Only rows of distributions are kept, and only where there is room.
        """
        if not self._spans:
            return None
        with self._lock:
            self._drop_freed()
            generation = self._find(address, size)
            if not generation or size > self._limit_bytes:
                return None
            while self.used_bytes + size > self._limit_bytes and self._evict():
                pass
            if self.used_bytes + size > self._limit_bytes:
                return None
            try:
                own = Resident(self._arena.take(size), (address, size), generation)
            except OutOfCardMemoryError:
                return None
            own.users = 1
            self.used_bytes += size
            self._rows[address, size] = own
            return own

    def release(self, own: Resident, *, is_copied: bool) -> None:
        """Note that a batch uses a row no more; is_copied: whether it holds what it should."""
        with self._lock:
            own.users -= 1
            if not is_copied:
                self._drop(own)
            self._free_unused(own)

    def evict_unused(self) -> bool:
        """Free the row that was not used longest, since a batch lacks memory; returns whether there was one."""
        with self._lock:
            self._drop_freed()
            return self._evict()

    def _find(self, address: int, size: int) -> int:
        """Find the generation of the memory that holds a row; 0 = none."""
        at = bisect_right(self._spans, (address, 1 << 64, 0)) - 1
        if at < 0:
            return 0
        begin, end, generation = self._spans[at]
        return generation if begin <= address and address + size <= end else 0

    def _evict(self) -> bool:
        for own in self._rows.values():
            if not own.users:
                self._drop(own)
                self._free_unused(own)
                return True
        return False

    def _drop_freed(self) -> None:
        while self._freed:
            span = self._freed.popleft()
            self._spans.remove(span)
            for own in [row for row in self._rows.values() if row.generation == span[2]]:
                self._drop(own)
                self._free_unused(own)

    def _drop(self, own: Resident) -> None:
        if not own.is_dropped:
            own.is_dropped = True
            del self._rows[own.key]

    def _free_unused(self, own: Resident) -> None:
        if own.is_dropped and not own.users:
            self._arena.give_back(own.address)
            self.used_bytes -= own.key[1]
