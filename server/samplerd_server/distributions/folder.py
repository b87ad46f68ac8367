"""Distributions that several processes of one host share: files of one folder, which every process maps.

::

    n-NAME    a distribution; its modification time is its last use, by the store's clock
    t-TOKEN   a distribution that is being written
    x-TOKEN   a distribution that was deleted or has expired; a process may still draw from it
    lock      locked (flock) while a file is renamed

Rule 1: a file is written under a name of its own and renamed once it is complete, so no process maps an incomplete one.
Rule 2: a process that maps a file holds a shared lock on it, which ends with the mapping or the process. A file t-TOKEN
or x-TOKEN is unlinked by the first process that finds it unlocked: a file in use stays and is counted, and a killed
process leaves nothing behind. Rule 3: each use checks the file, so that changes by another process are seen at once.
Rule 4: the folder belongs to these processes alone. Runs on the event loop, except for `size_bytes` and `count`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import weakref
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from samplerd_server.core.errors import FullError
from samplerd_server.distributions.files import USED_UP, map_file, needs_folder, unlink_unlocked
from samplerd_server.distributions.segment import open_segment
from samplerd_server.distributions.store import check_limits, not_found, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.rows import StoredRows
    from samplerd_server.distributions.segment import Segment, SegmentDecoder
    from samplerd_server.metrics.instruments import Counter

__all__ = ["GONE", "FolderStore"]

_NAMED, _MAKING, GONE = "n-", "t-", "x-"


class _Mapped:
    """A file that this process maps."""

    __slots__ = ("inode", "segment")

    def __init__(self, segment: Segment, inode: int) -> None:
        segment.rows = replace(segment.rows, file=inode)
        self.segment = segment
        self.inode = inode
        """Inode number: no other file can have it while this one is mapped."""


class FolderStore:
    """Distributions in the files of one folder: `Store`."""

    def __init__(
        self,
        folder: Path,
        *,
        max_count: int,
        max_bytes: int,
        clock: Callable[[], float],
        events: Counter,
        segment_decoder: SegmentDecoder,
    ) -> None:
        """Use an existing folder; the other arguments are those of `MemoryStore`, with limits for all processes."""
        self._folder = folder
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._clock = clock
        self._events = events
        self._segment_decoder = segment_decoder
        self._mapped: dict[str, _Mapped] = {}
        self._making: dict[int, Path] = {}
        """Path by id of the memory, for memory that was allocated and not published."""

    @property
    def count(self) -> int:
        """Distributions that can be sampled, whichever process uploaded them."""
        return sum(entry.name.startswith(_NAMED) for entry in os.scandir(self._folder))

    @property
    def size_bytes(self) -> int:
        """Bytes held by all processes together."""
        size = 0
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                size += entry.stat().st_size
        return size

    @needs_folder
    def check(self, name: str, size_bytes: int) -> None:
        """Raise the error that `allocate` or `publish` would raise now; see `Store`."""
        self.free_expired()
        if self._path(name).exists():
            raise taken(name)
        self._check_room(size_bytes)

    def _check_room(self, size_bytes: int) -> None:
        check_limits(self.count, self.size_bytes, size_bytes, max_count=self._max_count, max_bytes=self._max_bytes)

    @needs_folder
    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """Allocate memory; see `Store`."""
        path = self._folder / (_MAKING + secrets.token_hex(8))
        with self._lock():
            self._check_room(size_bytes)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.truncate(descriptor, size_bytes)
        try:
            # Allocated now: a page that is missing when it is first written to would kill the process (SIGBUS).
            os.posix_fallocate(descriptor, 0, size_bytes)
            memory = map_file(descriptor, mmap.ACCESS_WRITE)
        except OSError as error:
            path.unlink()
            if error.errno in USED_UP:
                raise
            raise FullError(f"{size_bytes} bytes do not fit into the folder of distributions") from error
        finally:
            os.close(descriptor)
        self._making[id(memory)] = path
        weakref.finalize(memory, self._forget_making, id(memory)).atexit = False
        return memory

    def _forget_making(self, key: int) -> None:
        path = self._making.pop(key, None)
        if path is not None:
            path.unlink(missing_ok=True)

    @needs_folder
    def publish(self, memory: NDArray[np.uint8]) -> tuple[Segment, float]:
        """Store a distribution under its name; see `Store`."""
        segment = open_segment(memory, self._segment_decoder)
        name, making = segment.description.name, self._making[id(memory)]
        with self._lock():
            if self._is_there(name):
                raise taken(name)
            check_limits(self.count, 0, 0, max_count=self._max_count, max_bytes=self._max_bytes)
            now = self._clock()
            os.utime(making, (now, now))
            inode = making.stat().st_ino
            making.rename(self._path(name))
        del self._making[id(memory)]
        self._mapped[name] = _Mapped(segment, inode)
        self._events.add(1, "created")
        return segment, now + segment.description.ttl_s

    @needs_folder
    def find(self, name: str) -> StoredRows:
        """Give rows to draw from; see `Store`."""
        mapped, _ = self._look_up(name)
        now = self._clock()
        with suppress(FileNotFoundError):  # another process has just deleted it
            os.utime(self._path(name), (now, now))
        self._events.add(1, "used")
        return mapped.segment.rows

    @needs_folder
    def describe(self, name: str) -> tuple[Segment, float]:
        """Give a distribution and when it expires; see `Store`."""
        mapped, used = self._look_up(name)
        return mapped.segment, used + mapped.segment.description.ttl_s

    @needs_folder
    def delete(self, name: str) -> None:
        """Delete a distribution; see `Store`."""
        with self._lock():
            if not self._is_there(name):
                raise not_found(name)
            self._retire(name)
        self._events.add(1, "deleted")
        self._collect()

    @needs_folder
    def names(self) -> list[str]:
        """List all names, ascending."""
        self.free_expired()
        return sorted(self._names())

    @needs_folder
    def free_expired(self) -> None:
        """Delete the expired distributions, and unmap those that other processes have deleted."""
        names = set(self._names())
        for name in self._mapped.keys() - names:
            del self._mapped[name]
        for name in names:
            if self._is_past(name):
                with self._lock():
                    self._is_there(name)
        self._collect()

    def _path(self, name: str) -> Path:
        return self._folder / (_NAMED + name)

    def _names(self) -> Iterator[str]:
        for entry in os.scandir(self._folder):
            if entry.name.startswith(_NAMED):
                yield entry.name.removeprefix(_NAMED)

    def _look_up(self, name: str) -> tuple[_Mapped, float]:
        """Give a distribution that has not expired, and the time of its last use."""
        mapped, used = self._refresh(name)
        if mapped is not None and self._has_expired(mapped, used):
            mapped = None  # the mapping would keep the file locked
            with self._lock():
                self._is_there(name)
            self._collect()
        if mapped is None:
            raise not_found(name)
        return mapped, used

    def _is_past(self, name: str) -> bool:
        mapped, used = self._refresh(name)
        return mapped is not None and self._has_expired(mapped, used)

    def _has_expired(self, mapped: _Mapped, used: float) -> bool:
        return used + mapped.segment.description.ttl_s <= self._clock()

    def _refresh(self, name: str) -> tuple[_Mapped | None, float]:
        """Map the file that has this name now, unless it is mapped already; None = there is no such file."""
        mapped = self._mapped.get(name)
        try:
            status = self._path(name).stat()
            if mapped is None or mapped.inode != status.st_ino:
                self._mapped.pop(name, None)
                mapped = self._mapped[name] = self._map_path(self._path(name))
                status = self._path(name).stat()
        except FileNotFoundError:
            self._mapped.pop(name, None)
            return None, 0.0
        return mapped, status.st_mtime

    def _map_path(self, path: Path) -> _Mapped:
        """Map a file, and lock it for as long as it is mapped."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            # The file is locked from here on, but it may have been unlinked before.
            inode = os.fstat(descriptor).st_ino
            if path.stat().st_ino != inode:
                raise FileNotFoundError
            return _Mapped(open_segment(map_file(descriptor, mmap.ACCESS_READ), self._segment_decoder), inode)
        finally:
            os.close(descriptor)

    def _is_there(self, name: str) -> bool:
        """Say whether a name is taken; an expired distribution loses its name. Under the lock."""
        mapped, used = self._refresh(name)
        if mapped is None:
            return False
        if self._has_expired(mapped, used):
            self._retire(name)
            self._events.add(1, "expired")
            return False
        return True

    def _retire(self, name: str) -> None:
        """Rename the file of a distribution, so that its name is free again. Under the lock."""
        self._mapped.pop(name, None)
        self._path(name).rename(self._folder / (GONE + secrets.token_hex(8)))

    def _collect(self) -> None:
        """Unlink the files of unnamed distributions that no process maps."""
        nameless = [entry.path for entry in os.scandir(self._folder) if entry.name.startswith((GONE, _MAKING))]
        if not nameless:
            return
        with self._lock():  # so that no file is unlinked between its creation and its first lock
            for path in nameless:
                with suppress(FileNotFoundError, BlockingIOError):
                    unlink_unlocked(path)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
