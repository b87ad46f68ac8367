"""A distribution over the categories of each row, from which to draw and of which to know log-probabilities.

Rule 1: masses are exp(exponent - largest), float64, in a `MassTree`; see there for why padding never matters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samplerd_server.sampling.portable.tree import MassTree, sum_blocks

__all__ = ["SHALLOW", "Distribution", "certainty"]

SHALLOW = 2.0**-500
"""Without replacement: where what is left weighs less than this, relative to the heaviest category at the start, masses
lose their bits (binary64 ends at 2^-1074), and the row is drawn again with `Distribution.rebase`."""
_FAR = 1e290
"""How far apart the exponents of successive certainties are; as many of them as a row is long are finite."""


class Distribution:
    """Masses over positions 0 .. n-1 of each row; positions are ids, or `ids` names them (ascending)."""

    __slots__ = ("_exponents", "_ids", "_is_empty", "_logits", "_owns_exponents", "_rest", "_tree", "_width")

    def __init__(
        self,
        exponents: Tensor,
        ids: Tensor | None = None,
        *,
        rest: Tensor | None = None,
        will_forget: bool = False,
        logits: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Take ln p, up to a constant.

        Args: exponents, float64[B, n] with maximum 0 in each row, -inf for what cannot be drawn; ids, int64[B, n];
        rest, float64[B, 1], the mass of what was not sent, NaN = unknown. With `will_forget` the exponents are
        overwritten, and `logprobs` and `rebase` cannot be asked for. logits: float64[B, n], and the temperature,
        float64[B, 1], that the exponents were made of: without them, what is left after something 10^16 times as far
        away has been drawn would be equal.
        """
        self._ids = ids
        self._owns_exponents = False
        self._is_empty: Tensor | None = None  # bool[B, 1]: rows that `rebase` found to have nothing left
        self._rest = rest
        self._logits = logits
        self._width = exponents.shape[1]
        self._exponents = None if will_forget else exponents
        self._tree = MassTree(exponents.exp_() if will_forget else exponents.exp())

    @property
    def total(self) -> Tensor:
        """float64[B, 1]: the mass left, the rest's included."""
        return self._tree.total if self._rest is None else self._tree.total + self._rest

    def draw(self, uniforms: Tensor) -> Tensor:
        """Positions int64[B, S] of uniforms float64[B, S]: the first whose cumulative mass exceeds u x total."""
        return self._tree.find(uniforms * self.total)

    def falls_outside(self, uniforms: Tensor) -> Tensor | None:
        """Whether draws fall into the rest, bool[B, S]; None where there is none."""
        if self._rest is None:
            return None
        return (self._rest > 0) & (uniforms * self.total >= self._tree.total)

    def ids(self, positions: Tensor) -> Tensor:
        """Ids int64[B, S] of positions."""
        return positions if self._ids is None else self._ids.gather(1, positions)

    def logprobs(self, positions: Tensor) -> Tensor:
        """Ln p, float64[B, S], of positions, given what was removed before."""
        return self._kept_exponents().gather(1, positions) - self.total.log()

    def entropy(self) -> Tensor:
        """H in nats, float64[B, 1]: ln Z - sum(m x exponent) / Z, with 0 ln 0 = 0; NaN with a rest."""
        exponents = self._kept_exponents()
        masses = exponents.exp()
        surprise = torch.where(masses > 0, masses * exponents, 0.0)
        entropy = (self.total.log() - sum_blocks(surprise) / self.total).clamp_(min=0.0)
        return entropy if self._rest is None else torch.where(self._rest == 0, entropy, float("nan"))

    def remove(self, positions: Tensor) -> None:
        """Take one position, int64[B, 1], out of each row."""
        self._tree.remove(positions)

    def rebase(self, removed: Tensor) -> None:
        """Take one position, int64[B, 1], out of each row, and rescale rows whose masses run out of range.

        These are the rows of which less than `SHALLOW` is left: they get a largest exponent of 0 again, in a pass over
        the rows, the others stay as they are. Syncs with the device.
        """
        self._tree.remove(removed)
        if not self._owns_exponents:  # whoever made them may use them still
            self._exponents, self._owns_exponents = self._kept_exponents().clone(), True
        exponents = self._kept_exponents().scatter_(1, removed, float("-inf"))
        is_shallow = self.total < SHALLOW
        if self._is_empty is not None:
            is_shallow &= ~self._is_empty
        if not bool(is_shallow.any()):
            return
        largest = exponents.amax(1, keepdim=True)
        self._is_empty = largest == float("-inf")
        largest = torch.where(is_shallow & ~self._is_empty, largest, 0.0)
        if self._logits is None:
            exponents -= largest
        else:
            logits, temperature = self._logits
            left = torch.where(exponents > float("-inf"), logits, float("-inf"))
            again = (left - left.amax(1, keepdim=True)) / temperature
            self._exponents = exponents = torch.where(is_shallow & ~self._is_empty, again, exponents)
        if self._rest is not None:
            self._rest = self._rest * torch.exp(-largest)
        self._tree = MassTree(exponents.exp())

    @property
    def masses(self) -> Tensor:
        """float64[B, n]: what is left of the masses."""
        return self._tree.masses[:, : self._width]

    @property
    def exponents(self) -> Tensor:
        """float64[B, n]: ln p + ln total."""
        return self._kept_exponents()

    @property
    def rest(self) -> Tensor | None:
        """float64[B, 1]: the mass of what was not sent; None where there is none."""
        return self._rest

    def _kept_exponents(self) -> Tensor:
        assert self._exponents is not None, "the exponents were given up. This is a bug."
        return self._exponents


def certainty(ranks: Tensor) -> Tensor:
    """Exponents, float64[B, n], with which the first is certain, and once it is gone the next; ranks from 0."""
    return 0.0 - ranks.to(torch.float64) * _FAR
