"""Step 7 of a group of rows: the filters, each a change of `FilterState` where a row has it on.

Laws as in `reference/filters.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from samplerd_server.core.enums import Order
from samplerd_server.sampling.portable.total_order import scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.sampling.portable.filter_state import FilterState
    from samplerd_server.sampling.portable.logits import Rows

__all__ = ["Filters"]

_FAR = 1 << 40
_ORDERS: dict[Order, tuple[str, ...]] = {
    Order.HUGGING_FACE: ("sigma", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "xtc"),
    Order.VLLM: ("sigma", "min_p", "top_k", "top_p", "typical", "epsilon", "eta", "xtc"),
    Order.LLAMA_CPP: ("sigma", "top_k", "typical", "top_p", "min_p", "epsilon", "eta", "xtc"),
    Order.JOINT: ("sigma", "joint", "min_p", "typical", "epsilon", "eta", "xtc"),
}


class Filters:
    """The filters of a chunk."""

    def __init__(self, rows: Rows, listed: tuple[Tensor, Tensor], sigma: Tensor | None, xtc: Tensor | None) -> None:
        """Take what the filters look at beside the masses.

        Args: rows, of one order; listed, logits float64[B, n] and positions int64[B, n] along the total order; sigma,
        float64[B, 1], the deviation of the finite logits, NaN = unknown, and xtc, float64[B, 1], the uniforms that
        decide XTC; each None if no row asks.
        """
        self._records, self._column = rows.chunk.records, rows.parameters.column
        self._sigma, self._xtc = sigma, xtc
        self._logits, self._ids = listed

    def apply(self, kept: FilterState) -> None:
        """Narrow `kept` by every filter that is on."""
        order = Order(int(self._records["order"][0]))
        joint = self._joint(kept) if order == Order.JOINT else (kept.count, torch.zeros_like(kept.beyond))
        steps: dict[str, Callable[[FilterState], None]] = {
            "sigma": self._sigma_cut,
            "top_k": self._top_k,
            "top_p": self._top_p,
            "min_p": self._min_p,
            "typical": self._typical,
            "epsilon": self._epsilon,
            "eta": self._eta,
            "xtc": self._act_xtc,
            "joint": lambda own: own.first(*joint),
        }
        for name in _ORDERS[order]:
            steps[name](kept)

    def _lengths(self) -> tuple[Tensor, Tensor]:
        """K of each row, and whether it is on."""
        k = self._column("top_k")
        return k, k > 0

    def _joint(self, unfiltered: FilterState) -> tuple[Tensor, Tensor]:
        """Find the cut of ORDER_JOINT, judged before any filter, and whether there is one."""
        k, has_k = self._lengths()
        p = self._column("top_p")
        by_count = torch.where(has_k, k, _FAR)
        if (self._records["top_p"] >= 1).all():
            return by_count, has_k
        has_p = p < 1
        unfiltered.undecided |= has_p & unfiltered.beyond & unfiltered.total.isnan()
        by_mass = torch.where(has_p, unfiltered.length_of(p), _FAR)
        return torch.minimum(by_count, by_mass), has_k | has_p

    def _top_k(self, kept: FilterState) -> None:
        if (self._records["top_k"] > 0).any():
            kept.first(*self._lengths())

    def _top_p(self, kept: FilterState) -> None:
        if (self._records["top_p"] < 1).any():
            p = self._column("top_p")
            kept.undecided |= (p < 1) & kept.beyond & kept.total.isnan()
            kept.first(kept.length_of(p), p < 1)

    def _min_p(self, kept: FilterState) -> None:
        if (self._records["min_p"] > 0).any():
            share = self._column("min_p")
            kept.at_least(share * kept.own.amax(1, keepdim=True), share > 0)

    def _epsilon(self, kept: FilterState) -> None:
        if (self._records["epsilon_cutoff"] > 0).any():
            epsilon = self._column("epsilon_cutoff")
            kept.at_least(epsilon * kept.total, epsilon > 0)

    def _eta(self, kept: FilterState) -> None:
        if (self._records["eta_cutoff"] > 0).any():
            eta = self._column("eta_cutoff")
            kept.undecided |= (eta > 0) & kept.beyond
            threshold = torch.minimum(eta, eta.sqrt() * torch.exp(-kept.entropy()))
            kept.at_least(threshold * kept.total, eta > 0)

    def _sigma_cut(self, kept: FilterState) -> None:
        if self._sigma is not None:
            n = self._column("top_n_sigma")
            within = self._logits - self._logits[:, :1] >= -n * self._sigma
            length = (kept.kept & within).sum(1, keepdim=True)
            is_open = (length == kept.count) | self._sigma.isnan()
            kept.undecided |= (n > 0) & kept.beyond & is_open
            kept.first(length, n > 0)

    def _typical(self, kept: FilterState) -> None:
        if not (self._records["typical_p"] < 1).any():
            return
        p = self._column("typical_p")
        kept.undecided |= (p < 1) & kept.beyond
        surprise = (kept.total.log() - kept.exponents - kept.entropy()).abs()
        surprise = torch.where(kept.kept, surprise, float("inf"))
        by_id = self._ids.argsort(dim=1, stable=True)
        order = by_id.gather(1, surprise.gather(1, by_id).argsort(dim=1, stable=True))
        prefix = scan(kept.own.gather(1, order))
        places = torch.arange(1, order.shape[1] + 1, device=order.device)
        length = torch.where(prefix >= p * kept.total, places, order.shape[1]).amin(1, keepdim=True)
        length = torch.maximum(length, kept.least)
        chosen = torch.zeros_like(kept.kept).scatter(1, order, places <= length)
        kept.narrow(kept.kept & chosen, p < 1)

    def _act_xtc(self, kept: FilterState) -> None:
        if self._xtc is None:
            return
        share = self._column("xtc_threshold")
        on = (share <= 0.5) & (self._xtc < self._column("xtc_probability"))
        threshold = share * kept.total
        kept.undecided |= on & kept.beyond & ~(kept.bound < threshold)
        dropped = (kept.kept & (kept.masses >= threshold)).sum(1, keepdim=True) - 1
        on = on & (dropped >= 1) & (kept.count - dropped >= kept.least)
        kept.kept = torch.where(on, kept.kept & (kept.ranks > dropped), kept.kept)
