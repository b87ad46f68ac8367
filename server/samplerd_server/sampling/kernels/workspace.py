"""Memory that one thread draws in: allocated once, grown when a wider row comes, never proportional to the batch."""

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.blocks import BLOCK

__all__ = ["Workspace"]


class Workspace:
    """Scratch arrays of one thread; the layouts are those that plain.py documents."""

    __slots__ = ("small32", "small64", "taken", "width")

    def __init__(self) -> None:
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
