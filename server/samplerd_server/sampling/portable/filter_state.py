"""What the filters of a group have kept so far: masses along the total order, and what lies beyond the listed ones.

The list of a row is its head (the first n of the order) or all of it. What lies beyond is known by its bound: of a
dense row's tail also the total is known; of candidates perhaps. A prefix that ends within the list is exact; where its
end cannot be placed the row is marked `undecided`: a dense row is then run again with all of it listed, one of
candidates fails.
Masses are whole numbers, so that a longer list gives the same sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samplerd_server.core.enums import TieRule
from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.masses import PART, TERM_BITS, UNKNOWN
from samplerd_server.sampling.portable.arithmetic import log2, power_of_two
from samplerd_server.sampling.portable.units import ceil, information, reaches

__all__ = ["FilterState"]

_FAR = 1 << 40
"""Longer than any row."""


class FilterState:
    """Mutable: the filters of one group narrow it in turn. All columns are [B, 1]."""

    def __init__(
        self,
        *,
        exponents: Tensor,
        masses: Tensor,
        shift: Tensor,
        total: Tensor,
        beyond: Tensor,
        certain: Tensor,
        bound: Tensor,
        above: Tensor,
        listed: Tensor,
        positions: Tensor,
        values: Tensor,
    ):
        """Start with everything kept.

        Args: exponents, float64[B, n], log2 of masses along the order; masses, int64[B, n], in units of 2^-shift, shift
        being int64; total, int64, all mass, also beyond, UNKNOWN = not known; beyond, bool, something is not listed;
        certain, int64, how many of the first precede all that is not listed; bound, int64, the largest mass that lies
        beyond; above, int64, how many of the first are above all that is not listed; listed, int64, how many categories
        llama.cpp would still have in its list; positions, int64[B, n], and values, float64[B, n], along the order.
        """
        self.exponents = exponents
        self.masses = masses
        self.shift = shift
        self.kept = torch.ones_like(masses, dtype=torch.bool)
        self.total = total
        self.beyond = beyond
        self.certain = certain
        self.bound = bound
        self.above = above
        self.listed = listed
        self.positions = positions
        self.values = values
        self.undecided = torch.zeros_like(beyond)

    @property
    def own(self) -> Tensor:
        """int64[B, n]: masses, 0 for what is not kept."""
        return torch.where(self.kept, self.masses, 0)

    @property
    def whole(self) -> Tensor:
        """float64: the total; meaningless where it is UNKNOWN."""
        return self.total.to(torch.float64)

    @property
    def is_unknown(self) -> Tensor:
        """bool: the total is not known."""
        return self.total == UNKNOWN

    @property
    def count(self) -> Tensor:
        """int64: how many are kept and listed."""
        return self.kept.sum(1, keepdim=True)

    @property
    def ranks(self) -> Tensor:
        """int32[B, n]: 1 for the first that is kept, and so on."""
        return self.kept.cumsum(1, dtype=torch.int32)

    def information(self) -> tuple[Tensor, Tensor]:
        """M / Z and H of what is kept and listed, in bits, float64; see `units`."""
        own = self.own
        return information(own, self.exponents, own.sum(1, keepdim=True), self.shift)

    def entropy(self) -> Tensor:
        """H of what is kept and listed, in nats, float64."""
        return self.information()[1] * LN_2

    def terms(self) -> Tensor:
        """-p log2 p of what is kept and listed, int64[B, n], 0 elsewhere: rule 5 of `sampling.masses`."""
        own = self.own
        whole = own.sum(1, keepdim=True).to(torch.float64)
        level = log2(whole) - self.shift.to(torch.float64)
        surprise = (level - self.exponents).clamp(min=0.0)
        terms: Tensor = own.to(torch.float64) * surprise * power_of_two(TERM_BITS - torch.frexp(whole).exponent.long())
        return terms.round().nan_to_num(0.0).long()

    def narrow(self, kept: Tensor, on: Tensor) -> None:
        """Keep bool[B, n] where `on`, and nothing beyond."""
        self.kept = torch.where(on, kept, self.kept)
        self.total = torch.where(on, self.own.sum(1, keepdim=True), self.total)
        self.beyond = self.beyond & ~on

    def first(self, length: Tensor, rule: TieRule, on: Tensor) -> None:
        """Keep the first `length` of what is kept, equals as the rule has them."""
        if rule is TieRule.LOWEST_ID:
            self.undecided |= on & self.beyond & (length > self._known(self.certain))
            self.narrow(self.kept & (self.ranks <= length), on)
            return
        self.undecided |= on & self.beyond & (length > self._known(self.above))
        self.narrow(self.kept & self.up_to(length, rule), on)

    def _known(self, first: Tensor) -> Tensor:
        """Count those of the first so many, int64[B, 1], that are kept."""
        return (self.kept & (torch.arange(self.kept.shape[1], device=first.device) < first)).sum(1, keepdim=True)

    def up_to(self, length: Tensor, rule: TieRule) -> Tensor:
        """bool[B, n]: the first `length` of what is kept, with TieRule.ALL or HIGHEST_ID; others mean nothing."""
        is_last = self.kept & (self.ranks == torch.minimum(length, self.count))
        last = torch.where(is_last, self.values, 0.0).sum(1, keepdim=True)
        is_equal = self.kept & (self.values == last)
        is_above = self.kept & (self.values > last)
        if rule is TieRule.ALL:
            return is_above | is_equal
        skipped = (is_above | is_equal).sum(1, keepdim=True) - length
        return is_above | (is_equal & (is_equal.cumsum(1) > skipped))

    def list_again(self, order: Tensor, values: Tensor) -> None:
        """List in another order, int64[B, n], of places; values, float64[B, n], along it."""
        self.kept, self.positions = self.kept.gather(1, order), self.positions.gather(1, order)
        self.values = values

    def weigh_again(self, exponents: Tensor, masses: Tensor, total: Tensor, bound: Tensor) -> None:
        """Take other masses; see the constructor."""
        self.exponents, self.masses, self.total, self.bound = exponents, masses, total, bound

    def reaching(self, threshold: Tensor, on: Tensor) -> Tensor:
        """Count those of what is kept that reach a threshold, float64 units; none of what lies beyond may."""
        needed = ceil(threshold)
        self.undecided |= on & self.beyond & reaches(self.bound, needed)
        return (self.kept & reaches(self.masses, needed)).sum(1, keepdim=True)

    def length_of(self, share: Tensor) -> Tensor:
        """Length of the shortest prefix that reaches a share of the total; far beyond the list if none there does."""
        needed = ceil(share * self.whole)
        own = self.own
        ends = own.cumsum(1)
        is_needed = self.kept & ((ends - own) + (own >> PART) < needed)
        length = is_needed.sum(1, keepdim=True).clamp(min=1)
        is_open = self.beyond & (length >= self.count) & (ends[:, -1:] < needed)
        return torch.where(is_open, _FAR, torch.minimum(length, self.count))
