"""What the filters of a group have kept so far: masses along the total order, and what lies beyond the listed ones.

The list of a row is its head (the first n of the order) or all of it. What lies beyond is known by its bound: of a
dense row's tail also the total is known; of candidates perhaps. A prefix that ends within the list is exact; where its
end cannot be placed the row is marked `undecided`: a dense row is then run again with all of it listed, one of
candidates fails.
Every sum is a tree or a scan from the front, so that a longer list gives the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samplerd_server.sampling.portable.total_order import scan
from samplerd_server.sampling.portable.tree import MassTree

__all__ = ["FilterState"]

_FAR = 1 << 40
"""Longer than any row."""


class FilterState:
    """Mutable: the filters of one group narrow it in turn. All columns are [B, 1]."""

    def __init__(
        self, *, exponents: Tensor, total: Tensor, beyond: Tensor, certain: Tensor, bound: Tensor, least: Tensor
    ):
        """Start with everything kept.

        Args: exponents, float64[B, n], ln of masses along the order, -inf past its end; total, float64, all mass, also
        beyond, NaN = unknown; beyond, bool, something is not listed; certain, int64, how many of the first precede all
        that is not listed; bound, float64, the largest mass that lies beyond; least, int64, min_tokens_to_keep.
        """
        self.exponents = exponents
        self.masses = exponents.exp()
        self.kept = exponents > float("-inf")
        self.total = total
        self.beyond = beyond
        self.certain = certain
        self.bound = bound
        self.least = least
        self.undecided = torch.zeros_like(beyond)

    @property
    def own(self) -> Tensor:
        """float64[B, n]: masses, 0 for what is not kept."""
        return torch.where(self.kept, self.masses, 0.0)

    @property
    def count(self) -> Tensor:
        """int64: how many are kept and listed."""
        return self.kept.sum(1, keepdim=True)

    @property
    def ranks(self) -> Tensor:
        """int32[B, n]: 1 for the first that is kept, and so on."""
        return self.kept.cumsum(1, dtype=torch.int32)

    def entropy(self) -> Tensor:
        """H of what is kept and listed, in nats."""
        own = self.own
        surprise = torch.where(own > 0, own * self.exponents, 0.0)
        total = MassTree(own).total
        return (total.log() - MassTree(surprise).total / total).clamp_(min=0.0)

    def narrow(self, kept: Tensor, on: Tensor) -> None:
        """Keep bool[B, n] where `on`, and nothing beyond."""
        self.kept = torch.where(on, kept, self.kept)
        self.total = torch.where(on, MassTree(self.own).total, self.total)
        self.beyond = self.beyond & ~on

    def first(self, length: Tensor, on: Tensor) -> None:
        """Keep the first `length` of what is kept, and at least `least`."""
        length = torch.maximum(length, self.least)
        self.undecided |= on & self.beyond & (length > self.certain)
        self.narrow(self.kept & (self.ranks <= length), on)

    def at_least(self, threshold: Tensor, on: Tensor) -> None:
        """Keep masses of at least `threshold`."""
        self.undecided |= on & self.beyond & ~(self.bound < threshold)
        self.first((self.kept & (self.masses >= threshold)).sum(1, keepdim=True), on)

    def length_of(self, mass: Tensor) -> Tensor:
        """Length of the shortest prefix with `mass` of the total; far beyond the list when it is not reached there."""
        reached = self.kept & (scan(self.own) >= mass * self.total)
        length = torch.where(reached, self.ranks.long(), _FAR).amin(1, keepdim=True)
        return torch.where(self.beyond, length, torch.minimum(length, self.count))
