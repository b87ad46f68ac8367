"""Memory that one thread draws in: allocated once, grown when a wider row comes, never proportional to the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.mass_tree import tree_bytes
from samplerd_server.sampling.kernels.work import BINS, SHARED_KEY, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Workspace", "aligned"]


def aligned(memory: NDArray[np.uint8]) -> int:
    """Give the first address in this memory that is a multiple of 64, a cache line's size."""
    address: int = memory.__array_interface__["data"][0]
    return -(-address // 64) * 64


class Workspace:
    """Scratch arrays of one thread."""

    __slots__ = ("places", "small32", "small64", "space", "taken", "tree", "width", "work")

    def __init__(self) -> None:
        self.work: Work | None = None
        self.grow(1 << 17)

    def grow(self, width: int) -> None:
        """Make room for rows of `width` numbers, and half as many again."""
        blocks = -(-(width + width // 2) // BLOCK)
        self.width = blocks * BLOCK
        """Numbers that a row may have."""
        self.small32 = np.zeros(2 * BLOCK + blocks, np.float32)
        """Numbers of one block; their masses; the maximum of each block."""
        self.small64 = np.zeros(BLOCK // 2 + 3 * blocks, np.float64)
        """Partial sums of one block; sum, scale and cumulative sum of each block."""
        self.taken = np.zeros(blocks * BLOCK // 64, np.uint64)
        """One bit for each number: drawn already. All 0 between rows."""
        self.tree = np.empty(tree_bytes(blocks) + 64, np.uint8)
        """For the sums of draws without replacement. Its pages are not the process's before they are written."""
        held = (self.small32, self.small64, self.taken)
        self.places = np.array(
            [*(array.__array_interface__["data"][0] for array in held), blocks, aligned(self.tree)], np.uint64
        )
        self.space: int = self.places.__array_interface__["data"][0]
        """Where the addresses of these arrays lie: one number for a kernel to take, instead of three arrays."""
        if self.work is not None:
            self.work = self._make_work()

    def full(self) -> Work:
        """Memory for rows that are adjusted and filtered; made when the first one comes."""
        if self.work is None:
            self.work = self._make_work()
        self.work.shared_keys.fill(0)  # addresses of another batch may be the same
        return self.work

    def _make_work(self) -> Work:
        n = self.width
        mass = np.zeros(n, np.int64)
        return Work(
            x=np.zeros(n, np.float32),
            y=np.zeros(n, np.float32),
            raw=np.zeros(n, np.float32),
            at=np.zeros(n, np.int32),
            mass=mass,
            residual=mass.view(np.float64),
            key=np.zeros(n, np.uint64),
            members=np.zeros(n + 1, np.int32),
            counts=np.zeros(n, np.int32),
            tokens=np.zeros(n, np.int32),
            bin_count=np.zeros(BINS, np.int64),
            bin_mass=np.zeros(BINS, np.int64),
            places=np.zeros(n, np.int32),
            has_places=np.zeros(1, np.int64),
            shared_ids=np.zeros(3 * n, np.int32),
            shared_values=np.zeros(3 * n, np.int32),
            shared_keys=np.zeros(3 * SHARED_KEY, np.uint64),
            spare=np.zeros(1 << 16, np.int32),
        )
