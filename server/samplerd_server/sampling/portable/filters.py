"""Steps 6 and 7 of a group of rows: each filter a change of `FilterState` where a row has it on, and the temperature.

Laws: `reference/filters.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplerd_server.core.enums import TieRule, XtcExemption
from samplerd_server.sampling.masses import DISTANCES, PART, UNKNOWN
from samplerd_server.sampling.parameters import FILTERS, Need, rule_of
from samplerd_server.sampling.portable import arithmetic
from samplerd_server.sampling.portable.adjust import read_ids
from samplerd_server.sampling.portable.arithmetic import ln
from samplerd_server.sampling.portable.logits import dynamic_temperature
from samplerd_server.sampling.portable.records import Fields, upload
from samplerd_server.sampling.portable.smoothing import Smoothing, has_smoothing
from samplerd_server.sampling.portable.units import Units, as_float32, ceil, deviation, entropy, weigh_logits
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
    return upload(is_exempt, positions.device).gather(1, rows.ids_at(positions))


class Filters:
    """The filters of a group."""

    def __init__(self, rows: LoadedRows) -> None:
        """Take rows, of one order."""
        self._rows, self._group = rows, rows.group
        self._records, self._parameters = rows.group.records, rows.parameters
        self._ties = TieRule(int(self._records["ties"][0]))

    def apply(self, state: FilterState) -> None:
        """Narrow `state` by every filter that is on, and weigh what is left again where the temperature comes."""
        steps, fields = self._group.steps, Fields(self._records)
        joint = self._joint(state) if "joint" in steps else None
        shapes: dict[str, Callable[[FilterState, Tensor], None]] = {
            "top_n_sigma": self._top_n_sigma,
            "top_k": lambda own, on: self._first("top_k", own, self._parameters.column("top_k"), on),
            "top_p": self._top_p,
            "typical_p": self._typical_p,
            "top_h": self._top_h,
            "xtc": self._act_xtc,
            "joint": lambda own, on: self._first("joint", own, joint, on) if joint is not None else None,
        }
        is_on = {own.name: own for own in FILTERS if own.name in steps and own.is_on(fields).any()}
        for place, name in enumerate(steps):
            if name == "temperature":
                if self._group.is_greedy:
                    return
                if self._group.is_early:
                    self._take_temperature(state, is_needed=not is_on.keys().isdisjoint(steps[place:]))
            elif name in is_on:
                own, before = is_on[name], state.kept
                on = own.is_on(self._parameters)
                if name in shapes:
                    shapes[name](state, on)
                else:
                    self._at_threshold(own, state, on)
                self._count_listed(name, state, before, on)

    def _count_listed(self, name: str, state: FilterState, before: Tensor, on: Tensor) -> None:
        """Count llama.cpp's list: what top_n_sigma rules out stays there, and XTC drops only what it drops."""
        if name == "top_n_sigma" or not self._records["dynamic_temperature_counts_all"].any():
            return
        count = state.count
        if name == "top_k":
            asked = torch.maximum(self._parameters.column("top_k"), self._least(name))
            count = torch.maximum(torch.minimum(state.listed, asked), count)
        elif name == "xtc":
            count = state.listed - (before.sum(1, keepdim=True) - count)
        state.listed = torch.where(on, count, state.listed)

    def _take_temperature(self, state: FilterState, *, is_needed: bool) -> None:
        """Find a dynamic temperature, and weigh what is kept at T, relative to the largest of it, if that `is_needed`.

        Where nothing was cut, the list of a dense row may be its head only: then the whole row is what is kept.
        """
        rows = self._rows
        # Only XTC drops something and leaves what lies beyond: the whole row is then unknown.
        is_cut = (~state.kept & (state.values > float("-inf"))).any(1, keepdim=True)
        if self._records["dynamic_temperature_range"].any():
            is_dynamic = self._parameters.column("dynamic_temperature_range") > 0
            state.undecided |= is_dynamic & state.beyond & (is_cut | rows.has_rest)
            whole = entropy(Units(rows, torch.ones_like(rows.temperature)))
            h = torch.where(state.beyond, whole, state.entropy())
            count = torch.where(state.beyond, rows.positive, state.count)
            rows.with_temperature(dynamic_temperature(rows, h, count, state.listed))
        bent = None
        if has_smoothing(rows):
            bent = self._bend(state)
        elif not is_needed:
            return
        first = state.positions.gather(1, state.kept.to(torch.uint8).argmax(1, keepdim=True))
        units = Units(rows, rows.temperature, first)
        masses, exponents = units.masses.gather(1, state.positions), units.exponents.gather(1, state.positions)
        total = torch.where(state.kept, masses, 0).sum(1, keepdim=True)
        if rows.rest is None:
            state.undecided |= state.beyond & is_cut
            total = torch.where(state.beyond, units.masses.sum(1, keepdim=True), total)
            bound = masses[:, -1:]
        else:
            rest, bound = units.rest(), units.bound()
            own = torch.where(rest == UNKNOWN, UNKNOWN, total + rest)
            total = torch.where(state.beyond, own, total)
        if bent is not None:
            is_bent, values, bent_bound = bent
            own_exponents, own_masses = weigh_logits(values, state.shift)
            exponents, masses = torch.where(is_bent, own_exponents, exponents), torch.where(is_bent, own_masses, masses)
            own = torch.where(state.kept, masses, 0).sum(1, keepdim=True)
            total = torch.where(is_bent, torch.where(state.beyond, UNKNOWN, own), total)
            bound = torch.where(is_bent, weigh_logits(bent_bound, state.shift, values)[1], bound)
        state.weigh_again(exponents, masses, total, bound)

    def _bend(self, state: FilterState) -> tuple[Tensor, Tensor, Tensor]:
        """Bend what is kept, relative to the largest of it, and list it in its new order.

        Returns which rows that concerns, bool[B, 1]; the bent logits, float64[B, n], -inf = dropped; and the bound of
        what was not sent. The whole rows are bent as well, for the scaled distribution.
        """
        rows = self._rows
        smoothing = Smoothing(rows)
        on = smoothing.is_on
        own = torch.where(state.kept, smoothing.logits().gather(1, state.positions), float("-inf"))
        largest = own.amax(1, keepdim=True)
        bent = smoothing.bend(own, largest)
        bound = bent[:, -1:]
        if rows.rest is None:
            state.undecided |= on & state.beyond  # what lies beyond the list may be equal to the last of it, once bent
        else:
            bound = smoothing.bend(smoothing.bound(), largest)
        smoothing.apply()
        by_id = state.positions.argsort(dim=1, stable=True)
        order = by_id.gather(1, bent.gather(1, by_id).sort(dim=1, descending=True, stable=True).indices)
        order = torch.where(on, order, torch.arange(order.shape[1], device=order.device))
        state.list_again(order, torch.where(on, bent, state.values).gather(1, order))
        if rows.rest is not None:
            is_known = on & state.beyond
            state.certain = torch.where(is_known, (state.values >= bound).sum(1, keepdim=True), state.certain)
            state.above = torch.where(is_known, (state.values > bound).sum(1, keepdim=True), state.above)
        return on, state.values, bound

    def _least(self, name: str) -> Tensor:
        """int64[B, 1]: how many a filter keeps at least."""
        least = self._parameters.column("min_tokens_to_keep")
        if name in {"top_k", "top_n_sigma"}:
            return torch.where(self._parameters.column("top_k_is_exact") > 0, 1, least)
        return least

    def _first(self, name: str, state: FilterState, length: Tensor, on: Tensor) -> None:
        """Keep as many as a filter asks for, and as it has to keep at least."""
        state.first(torch.maximum(length, self._least(name)), rule_of(self._ties, name), on)

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
        self._first("top_p", state, state.length_of(self._parameters.column("top_p")), on)

    def _at_threshold(self, own: Filter, state: FilterState, on: Tensor) -> None:
        """Apply a filter that is one formula; see `sampling.thresholds`."""
        if own.needs & Need.EACH:
            state.undecided |= on & state.beyond
        if own.needs & Need.TOTAL:
            state.undecided |= on & state.beyond & state.is_unknown
        largest = state.own.amax(1, keepdim=True).to(torch.float64) if own.needs & Need.LARGEST else None
        h = state.entropy() if own.needs & Need.EACH else None
        value = self._parameters.column(own.name)
        length = state.reaching(_THRESHOLDS[own.name](value, largest, state.whole, h), on)
        self._first(own.name, state, length, on)

    def _top_n_sigma(self, state: FilterState, on: Tensor) -> None:
        rows = self._rows
        logits, own = rows.adjusted, state.values
        if rows.weights is not None:
            logits = torch.where(rows.are_weights, as_float32(ln(rows.weights)), logits)
            own = torch.where(rows.are_weights, logits.gather(1, state.positions), own)
        listed = torch.where(state.kept, own, float("-inf"))
        gaps = listed.amax(1, keepdim=True) - listed
        spread = deviation(gaps, state.shift)
        if rows.rest is None and logits.shape[1] > listed.shape[1]:
            whole = deviation(logits.amax(1, keepdim=True) - logits, state.shift)
            spread = torch.where(state.beyond, whole, spread)
        is_cut = (~state.kept & (state.values > float("-inf"))).any(1, keepdim=True)
        within = gaps - gaps * 2.0**-PART <= self._parameters.column("top_n_sigma") * spread
        length = (state.kept & within).sum(1, keepdim=True)
        is_open = (length == state.count) | is_cut | rows.has_rest
        state.undecided |= on & state.beyond & is_open
        self._first("top_n_sigma", state, length, on)

    def _typical_p(self, state: FilterState, on: Tensor) -> None:
        p = self._parameters.column("typical_p")
        state.undecided |= on & state.beyond
        share, _ = state.information()
        distance = ((-state.exponents - share).abs() * DISTANCES).round().nan_to_num(0.0).long()
        distance = torch.where(state.kept, distance, _FAR)
        rule = rule_of(self._ties, "typical_p")
        by_id = state.positions.argsort(dim=1, stable=True, descending=rule is TieRule.HIGHEST_ID)
        order = by_id.gather(1, distance.gather(1, by_id).argsort(dim=1, stable=True))
        own = state.own.gather(1, order)
        needed = ceil(p * state.whole)
        length = ((own.cumsum(1) - own) + (own >> PART) < needed).sum(1, keepdim=True).clamp(min=1)
        length = torch.maximum(length, self._least("typical_p"))
        places = torch.arange(1, order.shape[1] + 1, device=order.device)
        if rule is TieRule.ALL:
            last = distance.gather(1, order).gather(1, (torch.minimum(length, state.count) - 1).clamp(min=0))
            chosen = distance <= last
        else:
            chosen = torch.zeros_like(state.kept).scatter(1, order, places <= length)
        state.narrow(state.kept & chosen, on)

    def _top_h(self, state: FilterState, on: Tensor) -> None:
        state.undecided |= on & state.beyond
        terms = state.terms()
        whole = terms.sum(1, keepdim=True)
        limit = (self._parameters.column("top_h") * whole.double() * (1.0 + 2.0**-PART)).floor()
        length = ((whole > 0) & state.kept & (terms.cumsum(1) <= limit.long())).sum(1, keepdim=True)
        self._first("top_h", state, length.clamp(min=1), on)

    def _act_xtc(self, state: FilterState, on: Tensor) -> None:
        on = on & (self._parameters.column("xtc_uniform") < self._parameters.column("xtc_probability"))
        state.undecided |= on & state.beyond & state.is_unknown
        length = state.reaching(self._parameters.column("xtc_threshold") * state.whole, on)
        is_dropped = state.kept & (state.ranks <= length) & ~self._stays(state, length)
        exempt = _exempt(self._rows, state.positions)
        if exempt is not None:
            is_exempt = is_dropped & exempt
            is_row = self._parameters.column("xtc_exemption") == XtcExemption.ROW
            on = on & ~(is_row & is_exempt.any(1, keepdim=True))
            is_dropped = is_dropped & ~is_exempt
        on = on & (state.count - is_dropped.sum(1, keepdim=True) >= self._least("xtc"))
        was_known = ~state.is_unknown
        given_up = torch.where(is_dropped, state.masses, 0).sum(1, keepdim=True)
        state.kept = torch.where(on, state.kept & ~is_dropped, state.kept)
        state.total = torch.where(on & was_known, state.total - given_up, state.total)

    def _stays(self, state: FilterState, length: Tensor) -> Tensor:
        """Find, bool[B, n], what XTC leaves of those equal to the last of the first `length`."""
        last = torch.where(state.kept & (state.ranks == length), state.values, 0.0).sum(1, keepdim=True)
        is_equal = state.kept & (state.values == last)
        rule = rule_of(self._ties, "xtc")
        if rule is TieRule.ALL:
            return is_equal
        if rule is TieRule.HIGHEST_ID:
            return is_equal & (is_equal.cumsum(1) == 1)
        return is_equal & (state.ranks == length)
