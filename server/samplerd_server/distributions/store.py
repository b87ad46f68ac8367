"""The distributions of this server: by name, within bounds, freed when they are not used.

Rule 1: the event loop owns it; only memory is freed wherever its last user happens to be. Rule 2: what was deleted or
has expired is counted as long as a request still draws from it, since so long it takes its memory. Rule 3: it has no
clock and no timer of its own: `clock` is given, and whoever owns it calls `sweep` now and then.
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
    from samplerd_server.distributions.segment import Opener, Segment
    from samplerd_server.metrics.instruments import Counter

__all__ = ["MemoryStore", "Store", "check_limits", "not_found", "taken"]


class Store(Protocol):
    """Where distributions are kept."""

    @property
    def count(self) -> int:
        """Distributions that can be sampled."""
        ...

    @property
    def size_bytes(self) -> int:
        """Memory that is taken, by what was deleted and is still drawn from as well."""
        ...

    def check(self, name: str, size_bytes: int) -> None:
        """Raise now what `allocate` and `publish` would.

        Raises:
            AlreadyExistsError: the name is taken.
            FullError: there is no room.

        """
        ...

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """Take memory, uint8[size_bytes], all 0; it is given back when nothing refers to it any more.

        Raises:
            FullError: there is no room.

        """
        ...

    def publish(self, memory: NDArray[np.uint8]) -> tuple[Segment, float]:
        """Make what `write_segment` wrote into allocated memory known by its name; as `describe`.

        Raises:
            AlreadyExistsError: the name is taken.
            FullError: there are too many.

        """
        ...

    def find(self, name: str) -> StoredRows:
        """Give the rows of a distribution, to be sampled: that counts as its use.

        Raises:
            NotFoundError: there is none of that name.

        """
        ...

    def describe(self, name: str) -> tuple[Segment, float]:
        """Give a distribution and when it will expire, in seconds since 1970, inf = never; this is no use.

        Raises:
            NotFoundError: there is none of that name.

        """
        ...

    def delete(self, name: str) -> None:
        """Forget a distribution; requests that have found it finish.

        Raises:
            NotFoundError: there is none of that name.

        """
        ...

    def names(self) -> list[str]:
        """List all names, ascending."""
        ...

    def sweep(self) -> None:
        """Free what has expired."""
        ...


def check_limits(count: int, size_bytes: int, more_bytes: int, *, max_count: int, max_bytes: int) -> None:
    """Raise if one more distribution of `more_bytes` is too much beside `count` of `size_bytes` together.

    Raises:
        FullError: it is.

    """
    if count >= max_count:
        raise FullError(f"there are {count} distributions, and no more than {max_count} may be (--max-distributions)")
    if size_bytes + more_bytes > max_bytes:
        raise FullError(
            f"the distribution takes {more_bytes} bytes, beside {size_bytes} that are taken, of {max_bytes} in all "
            "(--distribution-bytes)"
        )


def taken(name: str) -> AlreadyExistsError:
    """Say that a name is taken."""
    return AlreadyExistsError(f"there is a distribution named {name} already")


def not_found(name: str) -> NotFoundError:
    """Say that there is no such distribution."""
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
        opener: Opener,
    ) -> None:
        """Make an empty store.

        Args:
            max_count: distributions.
            max_bytes: memory of all together.
            clock: the time in seconds since 1970.
            events: counts what is created, used, deleted and expired, by these words.
            opener: what distributions are opened with.

        """
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._clock = clock
        self._events = events
        self._opener = opener
        self._entries: dict[str, _Entry] = {}
        self._allocated = 0
        self._freed: deque[int] = deque()
        """Sizes that were given back: appended by whatever thread, taken off by the event loop."""

    @property
    def count(self) -> int:
        """Distributions that can be sampled."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Memory that is taken; any thread may ask."""
        return self._allocated - sum(self._freed.copy())

    def check(self, name: str, size_bytes: int) -> None:
        """Raise now what `allocate` and `publish` would; see the protocol."""
        self.sweep()
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
        """Take memory; see the protocol."""
        self._check_room(size_bytes)
        # Mapped rather than taken from the heap: it goes back to the system at once, and begins at a page.
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
        """Make a distribution known; see the protocol."""
        segment = open_segment(memory, self._opener)
        name = segment.description.name
        if name in self._entries and not self._forget_expired(name):
            raise taken(name)
        if len(self._entries) >= self._max_count:
            self._check_room(0)
        entry = self._entries[name] = _Entry(segment, self._clock())
        self._events.add(1, "created")
        return segment, entry.expires

    def find(self, name: str) -> StoredRows:
        """Give rows to be sampled; see the protocol."""
        entry = self._look_up(name)
        entry.used = self._clock()
        self._events.add(1, "used")
        return entry.segment.rows

    def describe(self, name: str) -> tuple[Segment, float]:
        """Give a distribution and when it expires; see the protocol."""
        entry = self._look_up(name)
        return entry.segment, entry.expires

    def delete(self, name: str) -> None:
        """Forget a distribution; see the protocol."""
        self._look_up(name)
        del self._entries[name]
        self._events.add(1, "deleted")

    def names(self) -> list[str]:
        """List all names, ascending."""
        self.sweep()
        return sorted(self._entries)

    def sweep(self) -> None:
        """Free what has expired."""
        now = self._clock()
        for name in [name for name, entry in self._entries.items() if entry.expires <= now]:
            self._forget_expired(name)

    def _look_up(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None or self._forget_expired(name):
            raise not_found(name)
        return entry

    def _forget_expired(self, name: str) -> bool:
        if self._entries[name].expires > self._clock():
            return False
        del self._entries[name]
        self._events.add(1, "expired")
        return True
