"""The reference, step 7: the filters of one row, in the total order (probability descending, id ascending). Float64.

A filter takes a `FilterState` and returns one that keeps less. Every filter but typical_p and XTC keeps a prefix of
the order. Probabilities are those of the distribution as renormalised by the filters before it, at T, or at 1 with
ORDER_LLAMA_CPP. At least min_tokens_to_keep of a filter's own order stay (for typical_p: of the most
typical); XTC acts only if that many remain, as in llama.cpp.

With candidates the rest is one unknown at the end of the order. A filter whose cut lies before any logit that the rest
may have is exact and drops the rest; one whose cut cannot be placed raises `Undecidable`:

* top_k: k at most the number of candidates at or above the bound;
* min_p: the bound itself is below the cut;
* top_p, epsilon_cutoff: also the rest's mass must be known, which takes T = 1 and no mask, bias or penalty on the rest;
* top_n_sigma, eta_cutoff, typical_p, dynamic temperature: never, since deviation and entropy need every category;
* XTC: the rest's mass known, and the bound below the threshold. The rest then stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Order
from samplerd_server.sampling.reference.adjust import Undecidable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams

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
    """So many of the first are known to precede the rest."""
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


def entropy(kept: FilterState) -> float:
    """H of what is kept, in nats."""
    if kept.rest != 0:
        raise Undecidable
    probabilities = kept.own / kept.total
    positive = probabilities[probabilities > 0]
    return max(0.0, float(-(positive * np.log(positive)).sum()))


def top_k(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep exactly the first k."""
    return kept.first(params.top_k)


def _top_p_length(kept: FilterState, top_p: float) -> float:
    """Length of the shortest prefix with mass >= top_p; infinite when it reaches into the rest."""
    if math.isnan(kept.rest):
        raise Undecidable
    reached = np.flatnonzero(np.cumsum(kept.own[kept.kept]) >= top_p * kept.total)
    if len(reached):
        return float(reached[0] + 1)
    return math.inf if kept.rest else float(kept.count)  # without a rest only rounding can leave it unreached


def top_p(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep the shortest prefix with mass >= top_p."""
    length = _top_p_length(kept, params.top_p)
    if math.isinf(length):
        raise Undecidable
    return kept.first(int(length))


def min_p(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep what has at least min_p times the largest probability."""
    return kept.at_least(params.min_p * float(kept.own.max()))


def typical_p(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep the shortest prefix, by (abs(-ln p - H), id) ascending, with mass >= typical_p."""
    typical = entropy(kept)
    masses = kept.own
    surprise = np.abs(math.log(kept.total) - (kept.logits - kept.origin) / kept.temperature - typical)
    order = [at for at in np.lexsort((kept.ids, surprise)) if kept.kept[at]]
    reached = np.flatnonzero(np.cumsum(masses[order]) >= params.typical_p * kept.total)
    length = max(int(reached[0]) + 1 if len(reached) else len(order), kept.least)
    chosen = np.zeros(len(masses), bool)
    chosen[order[:length]] = True
    return replace(kept, kept=chosen)


def epsilon_cutoff(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep probabilities of at least epsilon."""
    return kept.at_least(params.epsilon_cutoff * kept.total)


def eta_cutoff(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep probabilities of at least min(eta, sqrt(eta) exp(-H))."""
    eta = params.eta_cutoff
    return kept.at_least(min(eta, math.sqrt(eta) * math.exp(-entropy(kept))) * kept.total)


def top_n_sigma(kept: FilterState, params: SamplingParams) -> FilterState:
    """Keep logits of at least max - n population standard deviations of the finite logits; always the first filter."""
    if kept.rest != 0:
        raise Undecidable
    logits = kept.logits
    return kept.first(int((logits >= logits[0] - params.top_n_sigma * float(logits.std())).sum()))


def xtc(kept: FilterState, params: SamplingParams, uniform: float) -> FilterState:
    """If the row's own noise says so, drop all but the least likely of those with probability >= xtc_threshold."""
    if params.xtc_threshold > 0.5 or not uniform < params.xtc_probability:
        return kept
    threshold = params.xtc_threshold * kept.total
    if kept.rest != 0 and not kept.bound < threshold:
        raise Undecidable
    dropped = int((kept.kept & (kept.masses >= threshold)).sum()) - 1
    if dropped < 1 or kept.count - dropped < kept.least:
        return kept
    return replace(kept, kept=kept.kept & (np.cumsum(kept.kept) > dropped))


def joint(kept: FilterState, params: SamplingParams, unfiltered: FilterState) -> FilterState:
    """top_k and top_p of ORDER_JOINT, both judged on the unfiltered distribution."""
    if params.top_k == 0 and params.top_p == 1:
        return kept
    by_count = float(params.top_k) if params.top_k else math.inf
    by_mass = _top_p_length(unfiltered, params.top_p) if params.top_p < 1 else math.inf
    if math.isinf(min(by_count, by_mass)):
        raise Undecidable
    return kept.first(int(min(by_count, by_mass)))


def apply_filters(kept: FilterState, params: SamplingParams, xtc_uniform: float) -> FilterState:
    """Apply every filter that is on, in the order that the parameters name."""
    unfiltered = kept
    steps: dict[str, tuple[bool, Callable[[FilterState], FilterState]]] = {
        "top_n_sigma": (params.top_n_sigma > 0, lambda k: top_n_sigma(k, params)),
        "top_k": (params.top_k > 0, lambda k: top_k(k, params)),
        "top_p": (params.top_p < 1, lambda k: top_p(k, params)),
        "joint": (True, lambda k: joint(k, params, unfiltered)),
        "min_p": (params.min_p > 0, lambda k: min_p(k, params)),
        "typical_p": (params.typical_p < 1, lambda k: typical_p(k, params)),
        "epsilon_cutoff": (params.epsilon_cutoff > 0, lambda k: epsilon_cutoff(k, params)),
        "eta_cutoff": (params.eta_cutoff > 0, lambda k: eta_cutoff(k, params)),
        "xtc": (params.xtc_probability > 0, lambda k: xtc(k, params, xtc_uniform)),
    }
    for name in _ORDERS[params.order]:
        is_on, apply = steps[name]
        if is_on:
            kept = apply(kept)
    return kept


_ORDERS = {
    Order.HUGGING_FACE: ["top_n_sigma", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"],
    Order.VLLM: ["top_n_sigma", "min_p", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"],
    Order.LLAMA_CPP: ["top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff", "xtc"],
    Order.JOINT: ["top_n_sigma", "joint", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"],
}
