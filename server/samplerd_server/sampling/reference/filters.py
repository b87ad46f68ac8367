"""The reference, step 7: the filters of one row, in the total order (probability descending, id ascending). Float64.

A filter takes a `FilterState` and returns one that keeps less. Every filter but typical_p and XTC keeps a prefix of
the order. Probabilities are those of the distribution as renormalised by the filters before it, at T, or at 1 before
the step of the temperature, as whole numbers: `sampling.masses`. At least min_tokens_to_keep of a filter's own order
stay (for typical_p: of the most typical); XTC acts only if that many remain, as in llama.cpp.

Equals: a filter's own order puts them by id, ascending or, with TieRule.HIGHEST_ID, descending, and takes as many as it
asks for; with TieRule.ALL it takes all that are equal to the last.

With candidates the rest is one unknown at the end of the order. A filter that keeps a prefix ending before any logit
that the rest may have is exact, and drops the rest; one whose end cannot be placed raises `Undecidable`:

* top_k: k at most the number of candidates at or above the bound;
* min_p: the bound itself is below the threshold;
* top_p, top_a, epsilon_cutoff: also the rest's mass must be known, which takes T = 1 and no mask, bias or penalty on
  the rest;
* top_n_sigma, eta_cutoff, typical_p, dynamic temperature: never, since deviation and entropy need every category;
* XTC: the rest's mass known, and the bound below the threshold. The rest then stays.

Where equals may be kept that were not sent (any tie rule but LOWEST_ID), a cut must lie above the bound, not at it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import TieRule, XtcExemption
from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.masses import DISTANCES, PART, TERM_BITS, UNKNOWN
from samplerd_server.sampling.parameters import FILTERS, Need, rule_of
from samplerd_server.sampling.reference.adjust import Undecidable
from samplerd_server.sampling.reference.units import Units, deviation, prefix_length, reaches
from samplerd_server.sampling.thresholds import thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.sampling.parameters import Filter

__all__ = ["FilterState", "apply_filter", "entropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterState:
    """The categories of a row in the total order, and which of them are kept."""

    ids: NDArray[np.int64]
    """int64[n]: those with positive probability, (probability descending, id ascending)."""
    logits: NDArray[np.float64]
    """float64[n], adjusted, not divided by T."""
    masses: NDArray[np.float64]
    """float64[n]: exp((logit - origin) / T), what is drawn from."""
    origin: float
    """The logit whose mass is 1."""
    temperature: float
    """The T of the masses; 0 = certainty of the first."""
    kept: NDArray[np.bool_]
    """bool[n]."""
    rest: float
    """Mass of the rest on the same scale; 0 = dropped or none; NaN = unknown."""
    units: Units
    """What the filters judge by."""
    certain: int
    """How many of the first are known to precede the rest."""
    above: int
    """How many of the first are above every number of the rest."""
    listed: int
    """How many categories llama.cpp would still have in its list, forbidden ones too."""

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

    @property
    def whole(self) -> int:
        """Units of all that is kept. Raises Undecidable where the rest's are unknown."""
        if self.has_rest and self.units.rest == UNKNOWN:
            raise Undecidable
        return int(self.units.masses[self.kept].sum()) + (self.units.rest if self.has_rest else 0)

    @property
    def has_rest(self) -> bool:
        """The rest is still there."""
        return self.rest != 0

    def in_order(self, rule: TieRule) -> NDArray[np.int64]:
        """Places of what is kept, the likeliest first, equals as the rule has them."""
        at = np.flatnonzero(self.kept)
        ids = -self.ids[at] if rule is TieRule.HIGHEST_ID else self.ids[at]
        return at[np.lexsort((ids, -self.logits[at]))]

    def first(self, length: int, rule: TieRule = TieRule.LOWEST_ID) -> FilterState:
        """Keep the first `length` of what is kept, and nothing of the rest."""
        known = self.certain if rule is TieRule.LOWEST_ID else self.above
        if self.has_rest and length > int(self.kept[:known].sum()):
            raise Undecidable
        order = self.in_order(rule)
        return replace(self, kept=_cut(order, self.logits, length, rule), rest=0.0)

    def reaching(self, threshold: float) -> int:
        """Count those of what is kept that reach a threshold, in units; none of the rest may."""
        needed = math.ceil(threshold)
        if self.has_rest and reaches(self.units.bound, needed):
            raise Undecidable
        return int((self.kept & reaches(self.units.masses, needed)).sum())


def _cut(order: NDArray[np.int64], keys: NDArray[Any], length: int, rule: TieRule) -> NDArray[np.bool_]:
    """Choose the first `length` of an order; with TieRule.ALL also what has the same key as the last of them."""
    while rule is TieRule.ALL and 0 < length < len(order) and keys[order[length]] == keys[order[length - 1]]:
        length += 1
    chosen = np.zeros(len(keys), bool)
    chosen[order[:length]] = True
    return chosen


def least_of(params: SamplingParams, name: str) -> int:
    """How many a filter keeps at least."""
    is_exact = params.top_k_is_exact and name in {"top_k", "top_n_sigma"}
    return 1 if is_exact else max(params.min_tokens_to_keep, 1)


def keep_first(state: FilterState, params: SamplingParams, name: str, length: int) -> FilterState:
    """Keep as many as a filter asks for, and as it has to keep at least."""
    return state.first(max(length, least_of(params, name)), rule_of(params.ties, name))


def information(state: FilterState) -> tuple[float, float]:
    """Compute M / Z and H of what is kept, in bits: rule 3 of `sampling.masses`."""
    if state.has_rest:
        raise Undecidable
    total = state.whole
    masses, exponents = state.units.masses[state.kept], state.units.exponents[state.kept]
    moment = int(np.rint(masses.astype(np.float64) * -exponents).astype(np.int64).sum())
    share = float(moment) / float(total)
    return share, max(0.0, float(arithmetic.log2(float(total))) - state.units.shift + share)


def top_h(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep the longest prefix whose terms -p log2 p add up to at most a share of the entropy: rule 5 of the masses."""
    if state.has_rest:
        raise Undecidable
    level = float(arithmetic.log2(float(state.whole))) - state.units.shift
    surprise = np.maximum(level - state.units.exponents[state.kept], 0.0)
    scale = 2.0 ** (TERM_BITS - math.frexp(float(state.whole))[1])
    terms = np.rint(state.units.masses[state.kept].astype(np.float64) * surprise * scale).astype(np.int64)
    if not terms.any():
        return keep_first(state, params, "top_h", 1)
    limit = math.floor(params.top_h * float(terms.sum()) * (1.0 + 2.0**-PART))
    return keep_first(state, params, "top_h", max(1, int((np.cumsum(terms) <= limit).sum())))


def entropy(state: FilterState) -> float:
    """H of what is kept, in nats."""
    return information(state)[1] * arithmetic.LN_2


def top_k(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep exactly the first k."""
    return keep_first(state, params, "top_k", params.top_k)


def _top_p_length(state: FilterState, top_p: float) -> float:
    """Length of the shortest prefix that reaches top_p; infinite when it reaches into the rest."""
    needed = math.ceil(top_p * float(state.whole))
    length = prefix_length(state.units.masses[state.kept], needed)
    if length is not None:
        return float(length)
    return math.inf if state.has_rest else float(state.count)


def top_p(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep the shortest prefix that reaches top_p."""
    length = _top_p_length(state, params.top_p)
    if math.isinf(length):
        raise Undecidable
    return keep_first(state, params, "top_p", int(length))


def typical_p(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep the shortest prefix, by (abs(-log2 p - H), id) ascending, that reaches typical_p."""
    share, _ = information(state)
    distance = np.rint(np.abs(-state.units.exponents - share) * DISTANCES).astype(np.int64)
    rule = rule_of(params.ties, "typical_p")
    by_id = np.lexsort((-state.ids if rule is TieRule.HIGHEST_ID else state.ids, distance))
    order = by_id[state.kept[by_id]]
    needed = math.ceil(params.typical_p * float(state.whole))
    length = prefix_length(state.units.masses[order], needed) or len(order)
    return replace(state, kept=_cut(order, distance, max(length, params.min_tokens_to_keep), rule))


_THRESHOLDS = thresholds(exp=arithmetic.exp, sqrt=np.sqrt, minimum=min)


def at_threshold(state: FilterState, params: SamplingParams, own: Filter) -> FilterState:
    """Apply a filter that is one formula; see `sampling.thresholds`."""
    largest = float(state.units.masses[state.kept].max()) if own.needs & Need.LARGEST else math.nan
    total = float(state.whole) if own.needs & Need.TOTAL else math.nan
    h = entropy(state) if own.needs & Need.EACH else math.nan
    value = getattr(params, own.name)
    length = state.reaching(float(_THRESHOLDS[own.name](value, largest, total, h)))
    return keep_first(state, params, own.name, length)


def top_n_sigma(state: FilterState, params: SamplingParams) -> FilterState:
    """Keep logits of at least max - n population standard deviations, of what the filters before have kept."""
    if state.has_rest:
        raise Undecidable
    logits = state.units.logits[state.kept]
    gaps = logits[0] - logits
    limit = params.top_n_sigma * deviation(gaps, state.units.shift)
    return keep_first(state, params, "top_n_sigma", int((gaps - gaps * 2.0**-PART <= limit).sum()))


def xtc(state: FilterState, params: SamplingParams, uniform: float) -> FilterState:
    """If the row's own noise says so, drop all but the least likely of those that reach xtc_threshold.

    What is exempt is not dropped; with XTC_EXEMPTION_ROW nothing is where something exempt would be.
    """
    if not uniform < params.xtc_probability:
        return state
    rule = rule_of(params.ties, "xtc")
    order, length = state.in_order(rule), state.reaching(params.xtc_threshold * float(state.whole)) - 1
    while rule is TieRule.ALL and length > 0 and state.logits[order[length - 1]] == state.logits[order[length]]:
        length -= 1
    is_dropped = _cut(order, state.logits, max(length, 0), TieRule.LOWEST_ID)
    if params.xtc_exempt_ids is not None:
        is_exempt = is_dropped & np.isin(state.ids, params.xtc_exempt_ids)
        if params.xtc_exemption == XtcExemption.ROW and is_exempt.any():
            return state
        is_dropped &= ~is_exempt
    if state.count - int(is_dropped.sum()) < params.min_tokens_to_keep:
        return state
    return replace(state, kept=state.kept & ~is_dropped)


def joint(state: FilterState, params: SamplingParams, unfiltered: FilterState) -> FilterState:
    """top_k and top_p of ORDER_JOINT, both judged on the unfiltered distribution."""
    by_count = float(params.top_k) if params.top_k else math.inf
    by_mass = _top_p_length(unfiltered, params.top_p) if params.top_p < 1 else math.inf
    if math.isinf(min(by_count, by_mass)):
        raise Undecidable
    return keep_first(state, params, "joint", int(min(by_count, by_mass)))


def apply_filter(
    name: str, state: FilterState, params: SamplingParams, unfiltered: FilterState, xtc_uniform: float
) -> FilterState:
    """Apply one filter, if it is on. `unfiltered`: what there was after the temperature."""
    own = _BY_NAME[name]
    if not own.is_on(params):
        return state
    if name == "joint":
        after = joint(state, params, unfiltered)
    elif name == "xtc":
        after = xtc(state, params, xtc_uniform)
    elif name in _THRESHOLDS:
        after = at_threshold(state, params, own)
    else:
        after = _SHAPES[name](state, params)
    return replace(after, listed=_listed(name, state, after, params))


def _listed(name: str, before: FilterState, after: FilterState, params: SamplingParams) -> int:
    """Count llama.cpp's list after a filter: what top_n_sigma rules out stays there, also after XTC."""
    if name == "top_n_sigma":
        return before.listed
    if name == "xtc":
        return before.listed - (before.count - after.count)
    if name == "top_k":
        return max(min(before.listed, max(params.top_k, least_of(params, name))), after.count)
    return after.count


_BY_NAME = {own.name: own for own in FILTERS}


_SHAPES = {"top_n_sigma": top_n_sigma, "top_k": top_k, "top_p": top_p, "typical_p": typical_p, "top_h": top_h}
"""The filters that are more than a formula and need nothing but the parameters."""
