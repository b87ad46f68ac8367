"""The reader of shared memory: copies rows out of a client's region into memory of the server, once.

It also writes results into a region, if a request names one for them.

Rule 1: a region is never mapped. Its owner may truncate it or write to it at any time: a copy by pread(2) is then short
or mixed, but a mapping would kill the process (SIGBUS) or change while a kernel reads it. Rule 2: nothing is cached
between two reads, so that a region that was replaced, or whose permissions changed, is seen as it is now, and an
unlinked one is not held. Rule 3: a client cannot make the server wait: opening never blocks (a FIFO, a lease), and the
size of a read is bounded. See docs/design/0006-shared-memory-is-copied-once.md. Runs on the event loop.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Protocol

from samplerd_server.core.errors import (
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.transport.shared_memory.buffer_pool import BufferPool

if TYPE_CHECKING:
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["Buffers", "SharedMemoryReader"]

FOLDER = "/dev/shm/"  # noqa: S108  # where Linux keeps what shm_open(3) makes: no temporary file of ours
"""The folder whose files are the regions."""
_KEY = re.compile(r"/?((?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})", re.ASCII)
"""A single file name, so that no key leads out of the folder; 255 bytes is the limit of the system."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
IDLE_BYTES = 128 << 20
"""Bytes of idle buffers that the pool holds: enough for a full batch of large rows."""
_SYSTEM_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of the system that the request did not cause."""


class Buffers(Protocol):
    """Memory to copy rows into."""

    @property
    def idle_bytes(self) -> int:
        """Bytes of free buffers kept for the next rows."""
        ...

    def lease(self, size: int) -> memoryview:
        """Give memory with arbitrary content; it is free again when the last view of it is gone."""
        ...


class SharedMemoryReader:
    """Reads and writes the regions whose key begins with a prefix."""

    def __init__(self, prefix: str, *, max_bytes: int, metrics: Metrics, buffers: Buffers | None = None) -> None:
        self._prefix = prefix
        self.max_bytes = max_bytes
        """Most bytes that one request may name: bounds how long a copy blocks the event loop."""
        self._metrics = metrics
        self._buffers: Buffers = BufferPool(IDLE_BYTES) if buffers is None else buffers

    @property
    def idle_bytes(self) -> int:
        """Bytes of free buffers kept for the next rows."""
        return self._buffers.idle_bytes

    def allocate(self, size: int) -> memoryview:
        """Give memory to read into, with arbitrary content."""
        return self._buffers.lease(size)

    def resolve(self, key: str, path: str) -> str:
        """Check a key; returns the name of its file. `path` is the field of the request, for error messages.

        Raises:
            InvalidRequestError: it is not the name of a region.
            PermissionDeniedError: it does not begin with the prefix.

        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise InvalidRequestError(
                f"{path}.key",
                "must be 1 to 255 of A-Z a-z 0-9 . _ - after an optional '/'; no '..', no '.' first",
            )
        name = match[1]
        if not name.startswith(self._prefix):
            raise PermissionDeniedError(f"{path}.key: this server only reads regions named {self._prefix}...")
        return name

    def read(self, name: str, offset: int, into: memoryview, path: str) -> None:
        """Copy `len(into)` bytes at `offset` of the region with this name.

        Raises:
            InvalidRequestError: the bytes are not all within the region, or it is not an ordinary file.
            NotFoundError: there is no region of this name.
            PermissionDeniedError: the server may not read it.
            UnavailableError: the server has no file descriptor or memory left to open it.

        """
        began = time.monotonic()
        try:
            _copy(name, offset, into, path)
        except SamplerdError as error:
            self._metrics.shared_memory_errors.add(1, error.code.name.lower())
            raise
        self._metrics.shared_memory_bytes.add(len(into))
        self._metrics.shared_memory_read_seconds.observe(time.monotonic() - began)

    def write(self, key: str, offset: int, room: int, data: bytes, path: str) -> None:
        """Write a result into the part of a region that the request names for it.

        Raises:
            InvalidRequestError: the result does not fit there, or the region is not an ordinary file.
            NotFoundError: there is no region of this name.
            PermissionDeniedError: the key does not begin with the prefix, or the server may not write to the region.
            UnavailableError: the server has no file descriptor or memory left to open it.

        """
        if len(data) > room:
            raise InvalidRequestError(path, f"the result has {len(data)} bytes, but there is room for {room}")
        name = self.resolve(key, path)
        with _Opened(name, os.O_RDWR, path) as descriptor:
            _check_within(os.fstat(descriptor), name, offset, len(data), path)
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], offset + done)


class _Opened:
    """An open region, for a ``with`` statement. A class, because a generator takes as long as the system calls."""

    __slots__ = ("_descriptor", "_mode", "_name", "_path")

    def __init__(self, name: str, mode: int, path: str) -> None:
        self._name = name
        self._mode = mode
        self._path = path

    def __enter__(self) -> int:
        name, path = self._name, self._path
        try:
            self._descriptor = os.open(FOLDER + name, self._mode | _FLAGS)
        except FileNotFoundError:
            raise NotFoundError(f"{path}.key: there is no region {name} in {FOLDER}") from None
        except PermissionError as error:
            raise PermissionDeniedError(f"{path}.key: the server may not use the region {name}") from error
        except OSError as error:
            raise _unreadable(name, error, path) from error
        return self._descriptor

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        os.close(self._descriptor)
        if isinstance(error, OSError):
            raise _unreadable(self._name, error, self._path) from error


def _copy(name: str, offset: int, into: memoryview, path: str) -> None:
    with _Opened(name, os.O_RDONLY, path) as descriptor:
        _copy_from(descriptor, name, offset, into, path)


def _check_within(status: os.stat_result, name: str, offset: int, size: int, path: str) -> None:
    # A file with a second link could be another user's, linked under a name with the prefix.
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise InvalidRequestError(f"{path}.key", f"{name} is not an ordinary region of one name")
    if offset > status.st_size:
        raise InvalidRequestError(f"{path}.offset", f"{offset} is beyond the end of the region, {status.st_size} bytes")
    if offset + size > status.st_size:
        raise InvalidRequestError(
            f"{path}.byte_size", f"{size} bytes from {offset} on end beyond the region's {status.st_size} bytes"
        )


def _copy_from(descriptor: int, name: str, offset: int, into: memoryview, path: str) -> None:
    size = len(into)
    _check_within(os.fstat(descriptor), name, offset, size, path)
    done = 0
    while done < size:
        count = os.preadv(descriptor, [into[done:]], offset + done)
        if count == 0:
            raise InvalidRequestError(f"{path}.byte_size", f"the region was cut after {done} bytes while it was read")
        done += count


def _unreadable(name: str, error: OSError, path: str) -> SamplerdError:
    if error.errno in _SYSTEM_ERRORS:
        return UnavailableError(f"the region {name} cannot be opened now: {error.strerror}")
    return InvalidRequestError(f"{path}.key", f"the region {name} cannot be read: {error.strerror}")
