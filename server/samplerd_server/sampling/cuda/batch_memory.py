"""The memory of one batch on a card: scratch in device memory, and in page-locked memory what host and kernels share.

Rule 1: all of it is taken from two arenas, and given back at once, when the card has passed the batch. Rule 2: records,
lists and results lie in page-locked memory that kernels read and write in place: nothing small is copied.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling.cuda.card import Buffer
from samplerd_server.sampling.decode import read_bytes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from samplerd_server.sampling.cuda.arena import Arena
    from samplerd_server.sampling.cuda.residents import Resident, Residents
    from samplerd_server.sampling.rows import RowResults

__all__ = ["BatchMemory"]


class BatchMemory:
    """See the module, and `draw_memory.DrawMemory`."""

    def __init__(self, device: Arena, locked: Arena, residents: Residents) -> None:
        self._device = device
        self._locked = locked
        self._residents = residents
        self._used: list[Resident] = []
        self._taken: list[tuple[Arena, int]] = []

    def take(self, size: int) -> int:
        """Take device memory, in bytes; returns its address.

        Raises:
            OutOfCardMemoryError: there is not as much, as in all functions here.

        """
        return self._take(self._device, size)

    def take_locked(self, size: int) -> int:
        """Take page-locked memory, in bytes; returns its address."""
        return self._take(self._locked, size)

    def _take(self, arena: Arena, size: int) -> int:
        address = arena.take(size)
        self._taken.append((arena, address))
        return address

    def use(self, address: int, size: int) -> int:
        """Find a row of a distribution on the card, by where it lies in the host's memory; 0 = it is not there."""
        return self._use(self._residents.use(address, size))

    def keep(self, address: int, size: int) -> int:
        """Take memory for a row that will stay on the card; 0 = it will not, and is copied like others."""
        return self._use(self._residents.keep(address, size))

    def has(self, address: int) -> bool:
        """Tell whether an address lies in device memory already."""
        return self._device.has(address)

    def _use(self, own: Resident | None) -> int:
        if own is None:
            return 0
        self._used.append(own)
        return own.address

    def room(self, length: int, dtype: DTypeLike) -> Buffer:
        """Give scratch of so many numbers, of any content."""
        return Buffer(self.take(length * np.dtype(dtype).itemsize), length, dtype)

    def place(self, array: NDArray[Any]) -> Buffer:
        """Copy an array to where host and kernels read and write it."""
        address = self._lock(array)
        return Buffer(address, array.size, array.dtype)

    def share(self, array: NDArray[Any]) -> Buffer:
        """Give an array that `lock` has made."""
        return Buffer(array.ctypes.data, array.size, array.dtype)

    def lock(self, array: NDArray[Any]) -> NDArray[Any]:
        """Copy an array into page-locked memory."""
        return read_bytes(self._lock(array), array.nbytes).view(array.dtype).reshape(array.shape)

    def _lock(self, array: NDArray[Any]) -> int:
        address = self.take_locked(array.nbytes)
        read_bytes(address, array.nbytes)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return address

    def lock_results(self, results: RowResults) -> RowResults:
        """Copy results into page-locked memory, as they are."""

        def lock(own: Any) -> Any:
            if isinstance(own, dict):
                return {kind: self.lock(values) for kind, values in own.items()}
            return None if own is None else self.lock(own)

        return replace(results, **{own.name: lock(getattr(results, own.name)) for own in fields(results)})

    def give_back(self, *, is_whole: bool) -> None:
        """Give all of it back: the card has passed the batch; is_whole: whether it has also run it."""
        for own in self._used:
            self._residents.release(own, is_copied=is_whole)
        self._used.clear()
        for arena, address in self._taken:
            arena.give_back(address)
        self._taken.clear()
