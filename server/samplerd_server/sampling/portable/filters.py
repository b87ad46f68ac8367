"""Step 7 of a group of rows: the filters, each a change of `FilterState` where a row has it on.

Laws: `reference/filters.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplerd_server.core.enums import Order, XtcExemption
from samplerd_server.sampling.masses import DISTANCES, PART
from samplerd_server.sampling.parameters import FILTER_ORDERS, Need
from samplerd_server.sampling.portable import arithmetic
from samplerd_server.sampling.portable.adjust import read_ids
from samplerd_server.sampling.portable.records import Fields
from samplerd_server.sampling.portable.units import ceil
from samplerd_server.sampling.thresholds import thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.sampling.parameters import Filter
    from samplerd_server.sampling.portable.filter_state import FilterState
    from samplerd_server.sampling.portable.logits import LoadedRows

__all__ = ["Filters"]

_FAR = 1 << 40
"""Longer than any row."""
_THRESHOLDS = thresholds(exp=arithmetic.exp, sqrt=torch.sqrt, minimum=torch.minimum)


def _exempt(rows: LoadedRows, positions: Tensor) -> Tensor | None:
    """Find which of the listed positions hold tokens that XTC does not drop, bool[B, n]; None if no row names any."""
    records = rows.group.records
    if not records["xtc_exempt_ids_len"].any():
        return None
    is_exempt = np.zeros((len(records), int(records["vocab_size"].max())), bool)
    for row, record in enumerate(records):
        is_exempt[row, read_ids(record, "xtc_exempt_ids", "xtc_exempt_ids_len")] = True
    return torch.from_numpy(is_exempt).to(positions.device).gather(1, rows.ids_at(positions))


class Filters:
    """The filters of a group."""

    def __init__(
        self, rows: LoadedRows, positions: Tensor, sigma: tuple[Tensor, Tensor] | None, xtc: Tensor | None
    ) -> None:
        """Take what the filters look at beside the masses.

        Args: rows, of one order; positions, int64[B, n], along the total order; sigma, float64[B, n], how far the
        logits there lie below the largest, and float64[B, 1], the deviation, NaN = unknown, and xtc, float64[B, 1], the
        uniforms that decide XTC; each None if no row asks.
        """
        self._records, self._parameters = rows.group.records, rows.parameters
        self._sigma, self._xtc = sigma, xtc
        self._ids = positions
        self._exempt = _exempt(rows, positions) if xtc is not None else None

    def apply(self, state: FilterState) -> None:
        """Narrow `state` by every filter that is on."""
        order = Order(int(self._records["order"][0]))
        fields = Fields(self._records)
        joint = self._joint(state) if order == Order.JOINT else None
        shapes: dict[str, Callable[[FilterState, Tensor], None]] = {
            "top_n_sigma": self._top_n_sigma,
            "top_k": lambda own, on: own.first(self._parameters.column("top_k"), on),
            "top_p": self._top_p,
            "typical_p": self._typical_p,
            "top_h": self._top_h,
            "xtc": self._act_xtc,
            "joint": lambda own, on: own.first(joint, on) if joint is not None else None,
        }
        for own in FILTER_ORDERS[order]:
            if not own.is_on(fields).any():
                continue
            on = own.is_on(self._parameters)
            if own.name in shapes:
                shapes[own.name](state, on)
            else:
                self._at_threshold(own, state, on)

    def _joint(self, unfiltered: FilterState) -> Tensor:
        """Find the length that ORDER_JOINT keeps for top_k and top_p, both judged before any filter."""
        k, p = self._parameters.column("top_k"), self._parameters.column("top_p")
        by_count = torch.where(k > 0, k, _FAR)
        if (self._records["top_p"] >= 1).all():
            return by_count
        has_p = p < 1
        unfiltered.undecided |= has_p & unfiltered.beyond & unfiltered.is_unknown
        by_mass = torch.where(has_p, unfiltered.length_of(p), _FAR)
        return torch.minimum(by_count, by_mass)

    def _top_p(self, state: FilterState, on: Tensor) -> None:
        state.undecided |= on & state.beyond & state.is_unknown
        state.first(state.length_of(self._parameters.column("top_p")), on)

    def _at_threshold(self, own: Filter, state: FilterState, on: Tensor) -> None:
        """Apply a filter that is one formula; see `sampling.thresholds`."""
        if own.needs & Need.EACH:
            state.undecided |= on & state.beyond
        if own.needs & Need.TOTAL:
            state.undecided |= on & state.beyond & state.is_unknown
        largest = state.own.amax(1, keepdim=True).to(torch.float64) if own.needs & Need.LARGEST else None
        entropy = state.entropy() if own.needs & Need.EACH else None
        value = self._parameters.column(own.name)
        state.first(state.reaching(_THRESHOLDS[own.name](value, largest, state.whole, entropy), on), on)

    def _top_n_sigma(self, state: FilterState, on: Tensor) -> None:
        assert self._sigma is not None, "top_n_sigma is on without a deviation. This is a bug."
        gaps, deviation = self._sigma
        within = gaps - gaps * 2.0**-PART <= self._parameters.column("top_n_sigma") * deviation
        length = (state.kept & within).sum(1, keepdim=True)
        is_open = (length == state.count) | deviation.isnan()
        state.undecided |= on & state.beyond & is_open
        state.first(length, on)

    def _typical_p(self, state: FilterState, on: Tensor) -> None:
        p = self._parameters.column("typical_p")
        state.undecided |= on & state.beyond
        share, _ = state.information()
        distance = ((-state.exponents - share).abs() * DISTANCES).round().nan_to_num(0.0).long()
        distance = torch.where(state.kept, distance, _FAR)
        by_id = self._ids.argsort(dim=1, stable=True)
        order = by_id.gather(1, distance.gather(1, by_id).argsort(dim=1, stable=True))
        own = state.own.gather(1, order)
        needed = ceil(p * state.whole)
        length = ((own.cumsum(1) - own) + (own >> PART) < needed).sum(1, keepdim=True).clamp(min=1)
        length = torch.maximum(length, state.least)
        places = torch.arange(1, order.shape[1] + 1, device=order.device)
        chosen = torch.zeros_like(state.kept).scatter(1, order, places <= length)
        state.narrow(state.kept & chosen, on)

    def _top_h(self, state: FilterState, on: Tensor) -> None:
        state.undecided |= on & state.beyond
        terms = state.terms()
        limit = (self._parameters.column("top_h") * terms.sum(1, keepdim=True).double() * (1.0 + 2.0**-PART)).floor()
        length = (state.kept & (terms.cumsum(1) <= limit.long())).sum(1, keepdim=True)
        state.first(length.clamp(min=1), on)

    def _act_xtc(self, state: FilterState, on: Tensor) -> None:
        assert self._xtc is not None, "XTC is on without a uniform. This is a bug."
        on = on & (self._xtc < self._parameters.column("xtc_probability"))
        state.undecided |= on & state.beyond & state.is_unknown
        length = state.reaching(self._parameters.column("xtc_threshold") * state.whole, on) - 1
        is_dropped = state.kept & (state.ranks <= length)
        if self._exempt is not None:
            is_exempt = is_dropped & self._exempt
            is_row = self._parameters.column("xtc_exemption") == XtcExemption.ROW
            on = on & ~(is_row & is_exempt.any(1, keepdim=True))
            is_dropped = is_dropped & ~is_exempt
        on = on & (state.count - is_dropped.sum(1, keepdim=True) >= state.least)
        was_known = ~state.is_unknown
        given_up = torch.where(is_dropped, state.masses, 0).sum(1, keepdim=True)
        state.kept = torch.where(on, state.kept & ~is_dropped, state.kept)
        state.total = torch.where(on & was_known, state.total - given_up, state.total)
