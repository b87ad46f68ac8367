"""Steps 5 and 7 of a group: the total order, and what the filters keep of it; the distribution that is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from samplerd_server.sampling.masses import UNKNOWN
from samplerd_server.sampling.portable.distribution import Distribution, certainty
from samplerd_server.sampling.portable.filter_state import FilterState
from samplerd_server.sampling.portable.filters import Filters
from samplerd_server.sampling.portable.logits import ALMOST_ZERO, LoadedRows
from samplerd_server.sampling.portable.shapes import Shapes, has_shapes
from samplerd_server.sampling.portable.smoothing import Smoothing, has_smoothing
from samplerd_server.sampling.portable.total_order import first
from samplerd_server.sampling.portable.units import Units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Processed", "process"]

_NEVER = float("-inf")
_HEAD = 256
"""How much of the order is listed at first: enough for a usual top-k, and a twelfth of the cost of a sort."""


@dataclass(slots=True, kw_only=True)
class Processed:
    """The distribution that is drawn from, and the places of its categories in the row."""

    drawn_from: Distribution
    """Over places; its `ids` are positions in the row."""
    count: Tensor
    """int64[B, 1]: categories that can be drawn, the rest aside."""
    undecided: Tensor
    """bool[B, 1]: list all of the row and try again; candidates fail."""
    beyond: Tensor
    """bool[B, 1]: candidates: the rest can be drawn."""
    positions: Tensor | None = None
    """int64[B, n]: the total order as far as it was listed; None when nothing asked for it."""
    logits: Tensor | None = None
    """float64[B, n]: the adjusted logits along it."""
    certain: Tensor | None = None
    """int64[B, 1]: how many of the listed are certain to be the first."""
    kept: Tensor | None = None
    """bool[B, n]: which of the listed are kept."""

    exponents: Tensor | None = None
    """float64[B, n]: ln of the processed masses along it, up to the constant of `drawn_from`."""
    chosen: Tensor | None = None
    """int64[B, k]: positions that greedy rows choose, in order; None = the first of `positions`."""
    unshaped: Tensor | None = None
    """float64[B, n]: probabilities before adaptive-p or skew, along `positions`; None = nothing is shaped."""

    is_reordered: bool = False
    """What is listed is in the order that the filters saw, not in that of the scaled or of the processed masses."""

    @property
    def firsts(self) -> Tensor:
        """int64[B, k]: positions that greedy rows choose, in order."""
        firsts = self.positions if self.chosen is None else self.chosen
        assert firsts is not None, "greedy rows are always listed. This is a bug."
        return firsts


def process(rows: LoadedRows, *, is_full: bool) -> Processed:
    """Find what is drawn from. `is_full`: list all of each row."""
    group = rows.group
    if group.is_greedy:
        return _filter(rows, is_full=is_full) if group.has_filters else _choose(rows)
    if not group.is_early and has_smoothing(rows):
        Smoothing(rows).apply()
    if group.has_filters or group.is_sparse or has_shapes(rows):
        return _filter(rows, is_full=is_full)
    no = torch.zeros_like(rows.undecided)
    return Processed(drawn_from=rows.scaled, count=rows.positive, undecided=no, beyond=no)


def _choose(rows: LoadedRows) -> Processed:
    """T = 0: the first of the order, or the first S without replacement."""
    length = rows.group.draws if rows.group.without else 1
    logits, positions = first(rows.adjusted, length)
    missing = length - positions.shape[1]
    if missing > 0:  # these rows have too few
        positions = torch.nn.functional.pad(positions, (0, missing))
    certain = rows.certain(logits)
    draws = rows.parameters.column("num_samples")
    own = draws if rows.group.without else torch.ones_like(draws)
    undecided = rows.undecided | (rows.has_rest & (own > certain))
    is_first = torch.arange(logits.shape[1], device=logits.device).expand_as(logits) == 0
    sure = Distribution(torch.zeros_like(rows.health), positions[:, :1])
    kept = torch.arange(positions.shape[1], device=positions.device) < own
    return Processed(
        drawn_from=sure,
        count=rows.positive,
        undecided=undecided,
        beyond=torch.zeros_like(undecided),
        positions=positions,
        logits=logits,
        certain=certain,
        kept=kept,
        exponents=torch.where(is_first, 0.0, _NEVER).to(torch.float64),
    )


def _list_length(records: NDArray[np.void]) -> int:
    """Decide how much of the order to list: a power of two that covers top_k, min_tokens_to_keep and top_n."""
    longest = max(int(records[name].max()) for name in ("top_k", "min_tokens_to_keep", "top_n"))
    return max(_HEAD, 1 << (longest - 1).bit_length())


def _filter(rows: LoadedRows, *, is_full: bool) -> Processed:
    """Apply the filters along the order."""
    group, records = rows.group, rows.group.records
    width = rows.raw.shape[1]
    n = width if is_full or group.is_sparse or has_shapes(rows) else min(width, _list_length(records))
    logits, positions = first(rows.adjusted, n)
    judged_at = torch.ones_like(rows.temperature) if group.is_early else rows.temperature
    state = _start(rows, logits, positions, judged_at)
    Filters(rows).apply(state)
    if group.is_greedy:
        return _choose_kept(rows, state, logits, positions)
    own = torch.where(state.kept, state.values, _NEVER)
    if group.is_early and has_smoothing(rows):
        processed = _finish(rows, state, own, rows.adjusted.gather(1, state.positions), state.positions)
        processed.is_reordered = True
    else:
        processed = _finish(rows, state, own, logits, positions)
        processed.is_reordered = has_shapes(rows)
    return processed


def _start(rows: LoadedRows, logits: Tensor, positions: Tensor, temperature: Tensor) -> FilterState:
    """Start with everything kept of the listed logits, float64[B, n], judged at a temperature."""
    units = Units(rows, temperature)
    total = units.masses.sum(1, keepdim=True)
    if rows.rest is None:
        beyond = rows.positive > logits.shape[1]
    else:
        beyond = rows.has_rest
        rest = units.rest()
        total = torch.where(rest == UNKNOWN, UNKNOWN, total + rest)
    masses, exponents = units.masses.gather(1, positions), units.exponents.gather(1, positions)
    bound = masses[:, -1:] if rows.rest is None else units.bound()
    state = FilterState(
        exponents=exponents,
        masses=masses,
        shift=units.shift,
        total=total,
        beyond=beyond,
        certain=rows.certain(logits),
        bound=bound,
        above=rows.above(logits),
        listed=rows.parameters.column("vocab_size"),
        positions=positions,
        values=logits,
    )
    state.kept = logits > _NEVER
    state.undecided |= rows.undecided
    return state


def _choose_kept(rows: LoadedRows, state: FilterState, logits: Tensor, positions: Tensor) -> Processed:
    """T = 0 after filters: the first of what is kept, or the first S without replacement."""
    draws = rows.parameters.column("num_samples")
    own = draws if rows.group.without else torch.ones_like(draws)
    length = min(rows.group.draws if rows.group.without else 1, logits.shape[1])
    places = torch.arange(logits.shape[1], device=logits.device)
    at = torch.where(state.kept, places, logits.shape[1]).argsort(dim=1, stable=True)[:, :length]
    chosen = positions.gather(1, at)
    missing = (rows.group.draws if rows.group.without else 1) - length
    if missing > 0:  # these rows have too few
        chosen = torch.nn.functional.pad(chosen, (0, missing))
    # A list that ends before what is kept does is enough, as long as it has as many as are drawn.
    undecided = state.undecided | (state.beyond & (own > (state.kept & (places < state.certain)).sum(1, keepdim=True)))
    is_first = state.kept & (state.ranks == 1)
    return Processed(
        drawn_from=Distribution(torch.zeros_like(rows.health), chosen[:, :1]),
        count=torch.where(state.beyond, rows.positive, state.count),
        undecided=undecided,
        beyond=torch.zeros_like(state.beyond),
        positions=positions,
        logits=logits,
        certain=state.certain,
        kept=state.kept & (state.ranks <= own),
        exponents=torch.where(is_first, 0.0, _NEVER).to(torch.float64),
        chosen=chosen,
    )


def _finish(rows: LoadedRows, state: FilterState, own: Tensor, logits: Tensor, positions: Tensor) -> Processed:
    """Lay what is kept out by ascending id, at the row's temperature.

    Args: own, float64[B, n], the logits of what is kept along the order, -inf = dropped; logits, float64[B, n], those
    of the scaled row.
    """
    temperature = rows.temperature.clamp(min=ALMOST_ZERO)
    is_shaped, unshaped = torch.zeros_like(state.undecided), None
    if has_shapes(rows):
        shapes = Shapes(rows, temperature)
        is_shaped = shapes.on
        own, temperature, unshaped = shapes.apply(own, positions, state.shift)
    largest = own.amax(1, keepdim=True)
    by_id = torch.where(state.kept, positions, 1 << 40).argsort(dim=1, stable=True)
    exponents = (own - largest) / temperature
    exponents = torch.where(rows.is_certain & state.kept, certainty(state.ranks - 1), exponents)
    undecided, rest = state.undecided, None
    if rows.rest is None:
        undecided = undecided | state.beyond  # the list ends before what is kept does
    else:
        mass = rows.rest_mass(rows.rest, largest, temperature)
        assert mass is not None
        undecided = undecided | (state.beyond & (mass.isnan() | is_shaped))
        rest = torch.where(state.beyond, mass, 0.0)
    return Processed(
        drawn_from=Distribution(
            exponents.gather(1, by_id),
            positions.gather(1, by_id),
            rest=rest,
            logits=None if rows.has_certain else (own.gather(1, by_id), temperature),
        ),
        count=state.count,
        undecided=undecided | rows.undecided,
        beyond=state.beyond,
        positions=positions,
        logits=logits,
        certain=rows.certain(logits),
        kept=state.kept,
        exponents=exponents,
        unshaped=unshaped,
    )
