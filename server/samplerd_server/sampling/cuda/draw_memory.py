"""The memory of a batch while its kernels run, beside its rows and results: scratch, records, and what is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["DrawMemory", "TensorMemory"]


class DrawMemory(Protocol):
    """Gives memory that kernels can address. What it gives has a `data_ptr()`, and is an argument of a launch."""

    def room(self, length: int, dtype: DTypeLike) -> Any:
        """Give scratch of `length` numbers, of any content: only kernels read and write it."""
        ...

    def place(self, array: NDArray[Any]) -> Any:
        """Copy an array to where kernels can read and write it."""
        ...

    def share(self, array: NDArray[Any]) -> Any:
        """Give an array of the results, which kernels write."""
        ...


class TensorMemory:
    """Memory of the host, as tensors, for launches that are waited for: see `DrawMemory`."""

    def __init__(self, *, is_locked: bool = False) -> None:
        """Make it; is_locked: whether it is page-locked, which a GPU can address."""
        self._is_locked = is_locked
        self._held: list[torch.Tensor] = []

    def room(self, length: int, dtype: DTypeLike) -> torch.Tensor:
        """Give scratch."""
        return torch.empty(length, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=self._is_locked)

    def place(self, array: NDArray[Any]) -> torch.Tensor:
        """Copy an array where it must be, and keep it."""
        own = torch.from_numpy(array).pin_memory() if self._is_locked else torch.from_numpy(array)
        self._held.append(own)
        return own

    def share(self, array: NDArray[Any]) -> torch.Tensor:
        """Give an array of the results as it is."""
        return torch.from_numpy(array)
