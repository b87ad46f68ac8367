"""What the sampler needs of a card: memory, a stream of copies, a stream of kernels, and marks between them.

Two implementations: `cuda_card.CudaCard`, kernels compiled ahead of time and launched through CUDA's driver, and
`late_card.LateCard`, Triton's interpreter behind a double of a card that runs work late. Rule 1: nothing here waits but
`wait`, `fetch`, `store` and `close_region`. Rule 2: work of one stream runs in order; kernels see copies only behind a
`fence`. Rule 3: page-locked memory has one address, for the host and for kernels. Rule 4: any thread may call; kernels
are enqueued by one thread at a time, while others enqueue copies.

::

    CardError                     every failure of a card, which no request causes
    ├── OutOfCardMemoryError      no room for a batch: a smaller one may have it
    ├── LaunchError               a copy or a launch was refused; the card goes on
    ├── RegionError               memory of another process could not be opened; the card goes on
    └── CardLostError             the context is lost with all its memory: only a new process has another
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import DTypeLike

__all__ = [
    "Buffer",
    "Card",
    "CardError",
    "CardLostError",
    "Counts",
    "LaunchError",
    "OutOfCardMemoryError",
    "RegionError",
]


class CardError(Exception):
    """A failure of a card."""


class OutOfCardMemoryError(CardError):
    """There is no room in the memory of the card, or in page-locked memory."""


class LaunchError(CardError):
    """The card refused a copy or a launch."""


class RegionError(CardError):
    """Memory of another process could not be opened, or its size is not known."""


class CardLostError(CardError):
    """The card's context is lost."""


@dataclass(slots=True)
class Counts:
    """What a card has been told since the start. Written by the thread that enqueues, and by those that wait."""

    copies: int = 0
    """Copies from host to device."""
    copied_bytes: int = 0
    launches: int = 0
    waits: int = 0
    """How often a thread has waited for the card."""


class Buffer:
    """Numbers in the memory of a card or in page-locked memory, as an argument of a launch."""

    __slots__ = ("address", "dtype", "length")

    def __init__(self, address: int, length: int, dtype: DTypeLike) -> None:
        self.address = address
        self.length = length
        self.dtype = np.dtype(dtype)

    def data_ptr(self) -> int:
        """Give the address, by the name that tensors have for it."""
        return self.address


class Card(Protocol):
    """A card; see the module."""

    counts: Counts

    @property
    def name(self) -> str:
        """Which implementation this is, as GetServerInfo and the log show it: ``cuda`` or ``triton-interpreter``."""
        ...

    @property
    def most_draws(self) -> int:
        """Draws of a row above which the row is left to the CPU; 0 = none is."""
        ...

    @property
    def sensors(self) -> Mapping[str, Callable[[], float]]:
        """What can be read of the card itself, by the names of metrics. May be called from any thread."""
        ...

    @property
    def index(self) -> int:
        """The number of the device, as the driver counts in this process."""
        ...

    @property
    def overhead_ns(self) -> int:
        """The price of rows, in nanoseconds (`price.py`), below which the CPU draws a batch sooner; 0 = never."""
        ...

    @property
    def row_overhead_ns(self) -> int:
        """By how much this price rises with each row of the batch."""
        ...

    def start(self) -> None:
        """Make the context and load the kernels.

        Raises:
            CardError: that failed.

        """
        ...

    def allocate(self, size: int) -> int:
        """Allocate device memory, in bytes; returns its address, a multiple of 256.

        Raises:
            OutOfCardMemoryError: there is not as much.

        """
        ...

    def allocate_locked(self, size: int) -> int:
        """Allocate page-locked memory of the host, in bytes; returns its address, a multiple of 256.

        Raises:
            OutOfCardMemoryError: there is not as much.

        """
        ...

    def copy(self, to: int, own: int, size: int) -> None:
        """Enqueue a copy from page-locked memory, which stays as it is until then, to device memory."""
        ...

    def copy_within(self, to: int, own: int, size: int) -> None:
        """Enqueue a copy from device memory, of this process or an open region, to device memory."""
        ...

    def fetch(self, to: int, own: int, size: int) -> None:
        """Copy device memory to any memory of the host, after the copies that were enqueued before, and wait for it.

        Raises:
            CardError: it could not be copied.

        """
        ...

    def store(self, to: int, own: int, size: int) -> None:
        """Copy any memory of the host to device memory, after the copies that were enqueued before, and wait for it.

        Raises:
            CardError: it could not be copied.

        """
        ...

    def open_region(self, handle: bytes) -> tuple[int, int]:
        """Open device memory that another process has exported, by the 64 bytes of its handle.

        Returns:
            Its address here, and its size in bytes.

        Raises:
            RegionError: it cannot be opened. Whatever the handle, the card goes on.

        """
        ...

    def close_region(self, address: int) -> None:
        """Close such memory once the copies that were enqueued before have run.

        Raises:
            CardError: that failed.

        """
        ...

    def fence(self) -> None:
        """Let kernels that are launched from now on wait for the copies that were enqueued before."""
        ...

    def launch(self, kernel: Any, programs: int, *arguments: Any) -> None:
        """Enqueue a kernel."""
        ...

    def mark(self) -> Any:
        """Mark the end of all kernels that were launched so far."""
        ...

    def wait(self, mark: Any) -> None:
        """Wait until the card has passed a mark, each of which is waited for once.

        Raises:
            CardLostError: the context is lost, now or before.

        """
        ...

    def close(self) -> None:
        """Free all memory. Nothing may be called afterwards."""
        ...
