"""Rows in shared memory, for a server on the same host: a region of slots, each holding the rows of one request.

Rule 1: a slot belongs to one request until it is released, so calls that run at the same time never write over each
other's rows. Rule 2: a request holds its slot; a slot that nobody refers to any more is free again. Rule 3: the region
is a plain file of /dev/shm, as shm_open(3) would make it: no resource tracker, which may unlink it while others use it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import weakref
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import NUMPY_DTYPES, ArrayLike, as_rows, dtype_number

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["RegionFullError", "SharedMemoryRegion", "Slot"]

_FOLDER = "/dev/shm/"  # noqa: S108  # where Linux keeps what shm_open(3) makes


class RegionFullError(RuntimeError):
    """Expected: every slot is in use."""


class Slot:
    """The part of a region that holds the rows of one request; given to ``sample(shared_memory=...)``.

    In use until `release`, the end of ``with``, or until nobody refers to it any more. Release it by hand only once its
    call has ended; a view of `array` that is kept longer is a view of other rows.
    """

    __slots__ = ("__weakref__", "_held", "_message", "_region", "array")

    def __init__(self, region: SharedMemoryRegion, index: int, array: NDArray[Any], message: pb.SharedMemory) -> None:
        self._region = region
        self._held = [index]  # popped once, whoever releases
        self._message = message
        self.array = array
        """[rows, vocab_size], to be written before the call; bfloat16 as its bits, uint16."""

    def to_proto(self) -> pb.SharedMemory:
        """Return the message that names these rows."""
        return self._message

    def release(self) -> None:
        """Free the slot for other requests. Releasing it twice does nothing."""
        with contextlib.suppress(IndexError):
            self._region._give_back(self._held.pop())  # noqa: SLF001  # the other half of this class

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


class SharedMemoryRegion:
    """Shared memory of this process that a server on the same host reads rows from. Threads may share it.

    ::

        with SharedMemoryRegion("logits-", slots=64, slot_bytes=4 * 131_072) as region:
            result = await client.sample(shared_memory=region.put(logits), temperature=0.7)

    All of the memory is taken when the region is opened. It is unlinked when it is closed, or at the latest when the
    interpreter ends; a process that is killed leaves it behind.

    Args:
        prefix: what the server was given as ``--shared-memory-prefix``; a random name follows it.
        slots: requests that may be on their way at the same time.
        slot_bytes: largest request: rows x vocabulary size x bytes of a number.
        mode: who may read it: 0o600 for a server of the same user, 0o640 for one of the same group.

    """

    def __init__(self, prefix: str, *, slots: int, slot_bytes: int, mode: int = 0o600) -> None:
        if slots < 1 or slot_bytes < 1:
            raise ValueError(f"slots and slot_bytes must be at least 1, got {slots} and {slot_bytes}")
        self.key = f"{prefix.removeprefix('/')}{os.getpid()}-{secrets.token_hex(8)}"
        """Name of the region, which requests carry."""
        self.slot_bytes = slot_bytes
        self._stride = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._slots = slots
        self._mode = mode
        self._free: list[int] = []  # a stack: the slot that was used last is still in the processor's cache
        self._map: mmap.mmap | None = None
        self._owner = 0
        self._unlink: weakref.finalize[..., SharedMemoryRegion] | None = None

    @property
    def free_slots(self) -> int:
        """Number of free slots."""
        return len(self._free)

    def open(self) -> Self:
        """Make the region.

        Raises:
            OSError: there is no room for it in /dev/shm (ENOSPC), or no such folder.

        """
        if self._map is not None:
            return self
        path = _FOLDER + self.key
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, self._mode)
        try:
            os.fchmod(descriptor, self._mode)  # whatever the umask
            size = self._stride * self._slots
            os.posix_fallocate(descriptor, 0, size)  # now, or writing to it could kill this process with SIGBUS
            self._map = mmap.mmap(descriptor, size)
        except BaseException:
            os.unlink(path)  # noqa: PTH108  # a string, as everywhere here
            raise
        finally:
            os.close(descriptor)
        self._owner = os.getpid()
        self._unlink = weakref.finalize(self, _unlink, path, self._owner)
        self._free = list(range(self._slots))
        return self

    def close(self) -> None:
        """Unlink the region. Calls in flight are answered, or fail with NotFoundError."""
        self._free = []
        if self._unlink is not None:
            self._unlink()
        if self._map is not None:
            with contextlib.suppress(BufferError):  # somebody holds rows: the memory goes with them
                self._map.close()
            self._map = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, values: ArrayLike, dtype: str | None = None) -> Slot:
        """Copy rows into a free slot.

        Args:
            values: [V] or [B, V], as for `sample`.
            dtype: convert to "f32", "f16", "bf16" or "f64" on the way; None leaves the numbers as they are.

        Raises:
            RegionFullError: every slot is in use.
            TypeError, ValueError: they are no rows, or more bytes than a slot holds.

        """
        rows = as_rows(values, dtype)
        slot = self._take(rows.dtype, rows.rows, rows.vocab_size)
        slot.array.reshape(-1).view(np.uint8)[:] = np.frombuffer(rows.data, np.uint8)
        return slot

    def reserve(self, rows: int, vocab_size: int, dtype: str = "f32") -> Slot:
        """Return a free slot for rows that are to be written into its `array`, which holds anything until then.

        Raises:
            RegionFullError: every slot is in use.
            ValueError: an unknown dtype, no rows, or more bytes than a slot holds.

        """
        if rows < 1 or vocab_size < 1:
            raise ValueError(f"expected at least one row of at least one number, got {rows} of {vocab_size}")
        return self._take(dtype_number(dtype), rows, vocab_size)

    def _take(self, dtype: pb.Dtype.ValueType, rows: int, vocab_size: int) -> Slot:
        if self._map is None:
            raise ValueError("the region is not open; use it as `with SharedMemoryRegion(...)`")
        if os.getpid() != self._owner:
            raise RuntimeError("the region belongs to the process that this one was forked from; make one of its own")
        kind = NUMPY_DTYPES[dtype]
        size = rows * vocab_size * kind.itemsize
        if size > self.slot_bytes:
            raise ValueError(f"{rows} x {vocab_size} numbers are {size} bytes; a slot holds {self.slot_bytes}")
        try:
            index = self._free.pop()
        except IndexError:
            raise RegionFullError(f"all {self._slots} slots are in use") from None
        offset = index * self._stride
        array = np.frombuffer(self._map, kind, rows * vocab_size, offset).reshape(rows, vocab_size)
        message = pb.SharedMemory(
            key=self.key, offset=offset, byte_size=size, dtype=dtype, rows=rows, vocab_size=vocab_size
        )
        return Slot(self, index, array, message)

    def _give_back(self, index: int) -> None:
        if self._map is not None:
            self._free.append(index)


def _unlink(path: str, owner: int) -> None:
    """Unlink a region, if this is the process that made it."""
    if os.getpid() == owner:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108  # pathlib may be gone when the interpreter ends
