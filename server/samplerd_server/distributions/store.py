"""The store of uploaded distributions: by name, within bounds, freed after their idle time.

Rule 1: the event loop owns the store; memory is freed on whichever thread drops the last reference to it. Rule 2: the
bytes of a distribution that was deleted or has expired are counted until the last request that draws from it is done.
Rule 3: the store has no clock and no timer of its own: `clock` is an argument, and the owner calls `free_expired`.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from samplerd_server.core.errors import AlreadyExistsError, FullError, NotFoundError
from samplerd_server.distributions.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.core.rows import StoredRows
    from samplerd_server.distributions.segment import Segment, SegmentDecoder
    from samplerd_server.metrics.instruments import Counter

__all__ = ["MemoryStore", "Store", "check_limits", "not_found", "taken"]


class Store(Protocol):
    """A store of distributions."""

    @property
    def count(self) -> int:
        """Distributions that can be sampled."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes held, including those of deleted distributions that a request still draws from."""
        ...

    def check(self, name: str, size_bytes: int) -> None:
        """Raise the error that `allocate` or `publish` would raise now.

        Raises:
            AlreadyExistsError: the name is taken.
            FullError: there is no room.

        """
        ...

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """Allocate memory, uint8[size_bytes], all 0; it is freed when the last reference to it is gone.

        Raises:
            FullError: there is no room.

        """
        ...

    def publish(self, memory: NDArray[np.uint8]) -> tuple[Segment, float]:
        """Store what `write_segment` wrote into allocated memory under its name; returns what `describe` does.

        Raises:
            AlreadyExistsError: the name is taken.
            FullError: there are too many.

        """
        ...

    def find(self, name: str) -> StoredRows:
        """Give the rows of a distribution to draw from; this counts as a use of it.

        Raises:
            NotFoundError: no distribution has this name.

        """
        ...

    def describe(self, name: str) -> tuple[Segment, float]:
        """Give a distribution and when it will expire, in seconds since 1970, inf = never; not counted as a use.

        Raises:
            NotFoundError: no distribution has this name.

        """
        ...

    def delete(self, name: str) -> None:
        """Delete a distribution; requests that have already found it finish.

        Raises:
            NotFoundError: no distribution has this name.

        """
        ...

    def names(self) -> list[str]:
        """List all names, ascending."""
        ...

    def free_expired(self) -> None:
        """Delete the expired distributions."""
        ...


def check_limits(count: int, size_bytes: int, more_bytes: int, *, max_count: int, max_bytes: int) -> None:
    """Check that a distribution of `more_bytes` fits beside `count` others with `size_bytes` in total.

    Raises:
        FullError: it does not.

    """
    if count >= max_count:
        raise FullError(f"there are {count} distributions already, of at most {max_count} (--max-distributions)")
    if size_bytes + more_bytes > max_bytes:
        raise FullError(
            f"the distribution needs {more_bytes} bytes; {size_bytes} of {max_bytes} are in use already "
            "(--distribution-bytes)"
        )


def taken(name: str) -> AlreadyExistsError:
    """Make the error for a name that is taken."""
    return AlreadyExistsError(f"there is a distribution named {name} already")


def not_found(name: str) -> NotFoundError:
    """Make the error for a name that no distribution has."""
    return NotFoundError(f"there is no distribution named {name}; it may have expired or been deleted")


class _Entry:
    __slots__ = ("segment", "used")

    def __init__(self, segment: Segment, used: float) -> None:
        self.segment = segment
        self.used = used

    @property
    def expires(self) -> float:
        return self.used + self.segment.description.ttl_s


class MemoryStore:
    """Distributions in the memory of this process: `Store`."""

    def __init__(
        self,
        *,
        max_count: int,
        max_bytes: int,
        clock: Callable[[], float],
        events: Counter,
        segment_decoder: SegmentDecoder,
    ) -> None:
        """Make an empty store.

        Args:
            max_count: most distributions.
            max_bytes: most bytes of all distributions together.
            clock: gives the time, in seconds since 1970.
            events: counter with the label values created, used, deleted and expired.
            segment_decoder: opens the segments of distributions.

        """
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._clock = clock
        self._events = events
        self._segment_decoder = segment_decoder
        self._entries: dict[str, _Entry] = {}
        self._allocated = 0
        self._freed: deque[int] = deque()
        """Sizes of freed memory: appended by any thread, subtracted by the event loop."""

    @property
    def count(self) -> int:
        """Distributions that can be sampled."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Bytes held; may be called from any thread."""
        return self._allocated - sum(self._freed.copy())

    def check(self, name: str, size_bytes: int) -> None:
        """Raise the error that `allocate` or `publish` would raise now; see `Store`."""
        self.free_expired()
        if name in self._entries:
            raise taken(name)
        self._check_room(size_bytes)

    def _check_room(self, size_bytes: int) -> None:
        while self._freed:
            self._allocated -= self._freed.popleft()
        check_limits(
            len(self._entries), self._allocated, size_bytes, max_count=self._max_count, max_bytes=self._max_bytes
        )

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """Allocate memory; see `Store`."""
        self._check_room(size_bytes)
        # Mapped, not allocated from the heap: freed memory goes back to the system at once, and it begins at a page.
        try:
            space = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise FullError(f"the system has no {size_bytes} bytes left") from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            space.madvise(mmap.MADV_HUGEPAGE)
        memory = np.frombuffer(space, np.uint8)
        self._allocated += size_bytes
        weakref.finalize(memory, self._freed.append, size_bytes).atexit = False
        return memory

    def publish(self, memory: NDArray[np.uint8]) -> tuple[Segment, float]:
        """Store a distribution under its name; see `Store`."""
        segment = open_segment(memory, self._segment_decoder)
        name = segment.description.name
        if name in self._entries and not self._delete_if_expired(name):
            raise taken(name)
        if len(self._entries) >= self._max_count:
            self._check_room(0)
        entry = self._entries[name] = _Entry(segment, self._clock())
        self._events.add(1, "created")
        return segment, entry.expires

    def find(self, name: str) -> StoredRows:
        """Give rows to draw from; see `Store`."""
        entry = self._look_up(name)
        entry.used = self._clock()
        self._events.add(1, "used")
        return entry.segment.rows

    def describe(self, name: str) -> tuple[Segment, float]:
        """Give a distribution and when it expires; see `Store`."""
        entry = self._look_up(name)
        return entry.segment, entry.expires

    def delete(self, name: str) -> None:
        """Delete a distribution; see `Store`."""
        self._look_up(name)
        del self._entries[name]
        self._events.add(1, "deleted")

    def names(self) -> list[str]:
        """List all names, ascending."""
        self.free_expired()
        return sorted(self._entries)

    def free_expired(self) -> None:
        """Delete the expired distributions."""
        now = self._clock()
        for name in [name for name, entry in self._entries.items() if entry.expires <= now]:
            self._delete_if_expired(name)

    def _look_up(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None or self._delete_if_expired(name):
            raise not_found(name)
        return entry

    def _delete_if_expired(self, name: str) -> bool:
        if self._entries[name].expires > self._clock():
            return False
        del self._entries[name]
        self._events.add(1, "expired")
        return True
