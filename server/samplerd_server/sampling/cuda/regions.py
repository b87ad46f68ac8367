"""Memory of other processes on the card: opened by a handle, copied from and written to, and closed.

Rule 1: a handle is opened once, however often it is asked for, and closed when it was given back as often. Rule 2:
failures of the card become errors of the request, which name its field; the next batch meets a card that is lost.
Opening and closing may take milliseconds, and any thread may do it, one at a time; copies are only enqueued.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import TYPE_CHECKING

from samplerd_server.core.errors import InvalidRequestError, OverloadedError, UnavailableError
from samplerd_server.sampling.cuda.card import CardError, OutOfCardMemoryError, RegionError
from samplerd_server.sampling.cuda.handles import HANDLE_BYTES

if TYPE_CHECKING:
    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.cuda.copied_rows import CopiedRows

__all__ = ["CardRegions"]

_LOG = logging.getLogger("samplerd.cuda")
_RETRY_S = 0.05
"""After which rows that wait for the card have probably been drawn: some batches."""


class _Region:
    """An open region."""

    __slots__ = ("address", "handle", "size", "users")

    def __init__(self, handle: bytes, address: int, size: int) -> None:
        self.handle = handle
        self.address = address
        self.size = size
        self.users = 1


class CardRegions:
    """The regions of one card."""

    def __init__(self, card: Card, rows: CopiedRows) -> None:
        self._card = card
        self._rows = rows
        self._changing = threading.Lock()
        self._by_handle: dict[bytes, _Region] = {}
        self._is_closed = False

    @property
    def index(self) -> int:
        """The number of the device, as this process counts."""
        return self._card.index

    @property
    def open_bytes(self) -> int:
        """How many bytes the regions that are open have, as the driver tells, each counted once."""
        with self._changing:
            return sum(own.size for own in self._by_handle.values())

    def open(self, handle: bytes, byte_size: int) -> int:
        """Open a region of at least so many bytes; returns its address.

        Raises:
            InvalidRequestError: it cannot be opened, or is smaller.
            UnavailableError: the server stops.

        """
        if len(handle) != HANDLE_BYTES:
            raise InvalidRequestError("raw_handle", f"has {len(handle)} bytes; a handle of CUDA has {HANDLE_BYTES}")
        with self._changing:
            if self._is_closed:
                raise UnavailableError("the server is shutting down")
            own = self._by_handle.get(handle)
            if own is not None:
                _check_size(own.size, byte_size)
                own.users += 1
                return own.address
            try:
                address, size = self._card.open_region(handle)
            except CardError as error:
                raise InvalidRequestError(
                    "raw_handle",
                    f"the region cannot be opened: {error}; it must be of cudaMalloc, of another process on the same "
                    "host that still holds it, and on the server's device",
                ) from None
            try:
                _check_size(size, byte_size)
            except InvalidRequestError:
                self._close(address)
                raise
            self._by_handle[handle] = _Region(handle, address, size)
            return address

    def close(self, handle: bytes) -> None:
        """Give a region back, which is closed when nobody uses it any more and the copies out of it have run."""
        with self._changing:
            own = self._by_handle.get(handle)
            if own is None:
                return
            own.users -= 1
            if not own.users:
                del self._by_handle[handle]
                self._close(own.address)

    def close_all(self) -> None:
        """Close every region, for good."""
        with self._changing:
            self._is_closed = True
            for own in self._by_handle.values():
                self._close(own.address)
            self._by_handle.clear()

    def _close(self, address: int) -> None:
        try:
            self._card.close_region(address)
        except CardError as error:
            _LOG.warning("a region of another process could not be closed: %s", error)

    def lease(self, size: int) -> memoryview:
        """Take device memory for rows; only its address, and how long it lives, are the host's.

        Raises:
            OverloadedError: too many rows wait for the card.

        """
        try:
            return self._rows.lease(size)
        except OutOfCardMemoryError as error:
            raise OverloadedError(
                f"there is no device memory for {size} bytes of rows now: {error}",
                reason="DEVICE_MEMORY_FULL",
                retry_after_s=_RETRY_S,
            ) from None

    def copy(self, to: int, address: int, size: int, path: str) -> None:
        """Enqueue the copy of rows from an open region to leased memory. Raises UnavailableError if that fails."""
        try:
            self._card.copy_within(to, address, size)
        except CardError as error:
            raise _failed(path, error) from error

    def fetch(self, to: int, address: int, size: int, path: str) -> None:
        """Copy bytes of an open region to memory of the host. Raises UnavailableError if that fails."""
        try:
            self._card.fetch(to, address, size)
        except CardError as error:
            raise _failed(path, error) from error

    def write(self, address: int, data: bytes, path: str) -> None:
        """Write bytes to an open region. Raises UnavailableError if that fails."""
        own = ctypes.create_string_buffer(data, len(data))
        try:
            self._card.store(address, ctypes.addressof(own), len(data))
        except CardError as error:
            raise _failed(path, error) from error


def _check_size(size: int, byte_size: int) -> None:
    if byte_size > size:
        raise InvalidRequestError("byte_size", f"{byte_size} bytes are more than the {size} of the memory")


def _failed(path: str, error: CardError) -> UnavailableError:
    kind = "cannot be used" if isinstance(error, RegionError) else "cannot be copied"
    return UnavailableError(f"{path}: memory of the card {kind}: {error}")
