"""The reference, step 7: the filters of one row, in the total order (probability descending, id ascending). Float64.

A filter takes a `FilterState` and returns one that keeps less. Every filter but typical_p and XTC keeps a prefix of
the order. Probabilities are those of the distribution as renormalised by the filters before it, at T, or at 1 with
ORDER_LLAMA_CPP. At least min_tokens_to_keep of a filter's own order stay (for typical_p: of the most
typical); XTC acts only if that many remain, as in llama.cpp.

With candidates the rest is one unknown at the end of the order. A filter that keeps a prefix ending before any logit
that the rest may have is exact, and drops the rest; one whose end cannot be placed raises `Undecidable`:

* top_k: k at most the number of candidates at or above the bound;
* min_p: the bound itself is below the threshold;
* top_p, top_a, epsilon_cutoff: also the rest's mass must be known, which takes T = 1 and no mask, bias or penalty on
  the rest;
* top_n_sigma, eta_cutoff, typical_p, dynamic temperature: never, since deviation and entropy need every category;
* XTC: the rest's mass known, and the bound below the threshold. The rest then stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.parameters import FILTER_ORDERS, Need
from samplerd_server.sampling.reference.adjust import Undecidable
from samplerd_server.sampling.thresholds import thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.sampling.parameters import Filter

__all__ = ["FilterState", "apply_filters", "entropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterState:
    """The categories of a row in the total order, and which of them are kept."""

    ids: NDArray[np.int64]
    """int64[n]: those with positive probability, (probability descending, id ascending)."""
    logits: NDArray[np.float64]
    """float64[n], adjusted, not divided by T."""
    masses: NDArray[np.float64]
    """float64[n]: exp((logit - origin) / T)."""
    origin: float
    """The logit whose mass is 1."""
    temperature: float
    """The T of the masses; 0 = certainty of the first."""
    kept: NDArray[np.bool_]
    """bool[n]."""
    rest: float
    """Mass of the rest on the same scale; 0 = dropped or none; NaN = unknown."""
    bound: float
    """Largest mass that one category of the rest may have."""
    certain: int
    """How many of the first are known to precede the rest."""
    least: int
    """min_tokens_to_keep."""

    @property
    def count(self) -> int:
        """Categories kept, without the rest."""
        return int(self.kept.sum())

    @property
    def own(self) -> NDArray[np.float64]:
        """Masses with 0 for what is not kept."""
        return np.where(self.kept, self.masses, 0.0)

    @property
    def total(self) -> float:
        """Mass of all that is kept; NaN when the rest's is unknown."""
        return float(self.own.sum()) + self.rest

    def first(self, length: int) -> FilterState:
        """Keep the first `length` of what is kept, and at least `least`, and nothing of the rest."""
        length = max(length, self.least)
        if self.rest != 0 and length > self.certain:
            raise Undecidable
        return replace(self, kept=self.kept & (np.cumsum(self.kept) <= length), rest=0.0)

    def at_least(self, threshold: float) -> FilterState:
        """Keep masses of at least `threshold`."""
        if self.rest != 0 and not self.bound < threshold:
            raise Undecidable
        return self.first(int((self.own >= threshold).sum()))


def entropy(state: FilterState) -> float:
    """H of what is kept, in nats."""
    if state.rest != 0:
        raise Undecidable
    probabilities = state.own / state.total
    positive = probabilities[probabilities > 0]
    return max(0.0, float(-(positive * np.log(positive)).sum()))


def top_k(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep exactly the first k."""
    return state.first(params.top_k)


def _top_p_length(state: FilterState, top_p: float) -> float:
    """Length of the shortest prefix with mass >= top_p; infinite when it reaches into the rest."""
    if math.isnan(state.rest):
        raise Undecidable
    reached = np.flatnonzero(np.cumsum(state.own[state.kept]) >= top_p * state.total)
    if len(reached):
        return float(reached[0] + 1)
    return math.inf if state.rest else float(state.count)  # without a rest only rounding can leave it unreached


def top_p(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep the shortest prefix with mass >= top_p."""
    length = _top_p_length(state, params.top_p)
    if math.isinf(length):
        raise Undecidable
    return state.first(int(length))


def typical_p(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep the shortest prefix, by (abs(-ln p - H), id) ascending, with mass >= typical_p."""
    typical = entropy(state)
    masses = state.own
    surprise = np.abs(math.log(state.total) - (state.logits - state.origin) / state.temperature - typical)
    order = [at for at in np.lexsort((state.ids, surprise)) if state.kept[at]]
    reached = np.flatnonzero(np.cumsum(masses[order]) >= params.typical_p * state.total)
    length = max(int(reached[0]) + 1 if len(reached) else len(order), state.least)
    chosen = np.zeros(len(masses), bool)
    chosen[order[:length]] = True
    return replace(state, kept=chosen)


_THRESHOLDS = thresholds(exp=math.exp, sqrt=math.sqrt, minimum=min)


def at_threshold(state: FilterState, params: SamplingParams, own: Filter) -> FilterState:
    """Apply a filter that is one formula; see `sampling.thresholds`."""
    largest = float(state.own.max()) if own.needs & Need.LARGEST else math.nan
    h = entropy(state) if own.needs & Need.EACH else math.nan
    return state.at_least(_THRESHOLDS[own.name](getattr(params, own.name), largest, state.total, h))


def top_n_sigma(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep logits of at least max - n population standard deviations of the finite logits; always the first filter."""
    if state.rest != 0:
        raise Undecidable
    logits = state.logits
    return state.first(int((logits >= logits[0] - params.top_n_sigma * float(logits.std())).sum()))


def xtc(state: FilterState, params: SamplingParams, uniform: float) -> FilterState:
    """If the row's own noise says so, drop all but the least likely of those with probability >= xtc_threshold."""
    if not uniform < params.xtc_probability:
        return state
    threshold = params.xtc_threshold * state.total
    if state.rest != 0 and not state.bound < threshold:
        raise Undecidable
    dropped = int((state.kept & (state.masses >= threshold)).sum()) - 1
    if dropped < 1 or state.count - dropped < state.least:
        return state
    return replace(state, kept=state.kept & (np.cumsum(state.kept) > dropped))


def joint(state: FilterState, params: SamplingParams, unfiltered: FilterState) -> FilterState:
    """top_k and top_p of ORDER_JOINT, both judged on the unfiltered distribution."""
    by_count = float(params.top_k) if params.top_k else math.inf
    by_mass = _top_p_length(unfiltered, params.top_p) if params.top_p < 1 else math.inf
    if math.isinf(min(by_count, by_mass)):
        raise Undecidable
    return state.first(int(min(by_count, by_mass)))


def apply_filters(state: FilterState, params: SamplingParams, xtc_uniform: float) -> FilterState:
    """Apply every filter that is on, in the order that the parameters name."""
    unfiltered = state
    for own in FILTER_ORDERS[params.order]:
        if not own.is_on(params):
            continue
        if own.name == "joint":
            state = joint(state, params, unfiltered)
        elif own.name == "xtc":
            state = xtc(state, params, xtc_uniform)
        elif own.name in _THRESHOLDS:
            state = at_threshold(state, params, own)
        else:
            state = _SHAPES[own.name](state, params)
    return state


_SHAPES = {"top_n_sigma": top_n_sigma, "top_k": top_k, "top_p": top_p, "typical_p": typical_p}
"""The filters that are more than a formula and need nothing but the parameters."""
