"""Sums of masses along a fixed binary tree, and the search in it: from a uniform to a category.

Level 0 holds the masses m_0 .. m_{n-1}; node j of a level is the sum of nodes 2j and 2j + 1 of the level below. A node
thus depends on its own masses alone, and a zero beyond a row's end changes nothing: the tree of a row is the same
whatever it is padded to and whoever stands beside it.

Law. ``find(t)`` is the first i with m_0 + .. + m_i > t, up to the rounding of the sums. It descends from the root: left
if t is below the left sum, else right with what is left of t; but never into a subtree without mass, so a category of
zero mass is never found, whatever t is. Source: Wong and Easton, An efficient method for weighted sampling without
replacement (SIAM J. Comput., 1980).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MassTree", "sum_blocks"]

BLOCK = 512
"""Terms that are added by halving before sums of blocks are added in order."""
_CHUNK_DRAWS = 1 << 16
"""Targets (rows x draws) descending together, so that their state stays in the cache."""


def sum_blocks(terms: Tensor) -> Tensor:
    """Sum terms, float64[B, n], by halving within blocks of 512, then in order of blocks: float64[B, 1].

    The compiled kernels add what no draw is searched in like this. Zeros past a row's end change nothing.
    """
    blocks = -(-terms.shape[1] // BLOCK)
    sums = torch.nn.functional.pad(terms, (0, blocks * BLOCK - terms.shape[1])).reshape(-1, blocks, BLOCK)
    while (half := sums.shape[2] // 2) > 0:
        sums = sums[:, :, :half] + sums[:, :, half:]
    total = torch.zeros_like(sums[:, 0])
    for block in range(blocks):
        total = total + sums[:, block]
    return total


class MassTree:
    """A tree of sums over float64[B, n] masses; `remove` changes it, and the masses with it."""

    __slots__ = ("_levels",)

    def __init__(self, masses: Tensor) -> None:
        self._levels = [_even(masses)]
        while (level := self._levels[-1]).shape[1] > 1:
            sums = level[:, 0::2] + level[:, 1::2]
            self._levels.append(_even(sums))

    @property
    def total(self) -> Tensor:
        """float64[B, 1]: the sum of all masses."""
        return self._levels[-1]

    @property
    def masses(self) -> Tensor:
        """float64[B, n]: level 0, with a zero appended if n was odd."""
        return self._levels[0]

    def find(self, targets: Tensor) -> Tensor:
        """Find the categories at `targets`.

        Args: targets, float64[B, S], each in [0, total]. Returns int64[B, S], within [0, n) even where a row holds
        NaN. No device syncs.
        """
        step = max(1, _CHUNK_DRAWS // max(1, targets.shape[0]))
        if targets.shape[1] <= step:
            return self._descend(targets)
        return torch.cat([self._descend(part) for part in torch.split(targets, step, dim=1)], dim=1)

    def _descend(self, targets: Tensor) -> Tensor:
        node = torch.zeros(targets.shape, dtype=torch.int64, device=targets.device)
        for level in reversed(self._levels[:-1]):
            node = node * 2
            left, right = level.gather(1, node), level.gather(1, node + 1)
            to_right = (targets >= left) & (right > 0)
            targets = torch.where(to_right, targets - left, targets)
            node += to_right
        return node

    def remove(self, nodes: Tensor) -> None:
        """Take one category out of each row: nodes, int64[B, 1]. All sums become what they would be without it."""
        self._levels[0].scatter_(1, nodes, 0.0)
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            left = nodes & ~1
            nodes = nodes >> 1
            level.scatter_(1, nodes, below.gather(1, left) + below.gather(1, left | 1))


def _even(level: Tensor) -> Tensor:
    """Append a zero to a level of odd width, so that every node below the root has a sibling."""
    if level.shape[1] == 1 or level.shape[1] % 2 == 0:
        return level
    return torch.nn.functional.pad(level, (0, 1))
