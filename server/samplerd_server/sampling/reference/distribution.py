"""The reference's distributions: a row in the total order, softmax, log-probabilities of successive draws. Float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.reference.adjust import Known, Undecidable
from samplerd_server.sampling.reference.filters import FilterState
from samplerd_server.sampling.reference.units import weigh

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Distribution", "exp", "in_order", "processed", "softmax", "successive"]


def exp(x: float) -> float:
    """Exponentiate; what would overflow saturates at 10^304."""
    return math.exp(min(float(x), 700.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution over the known categories and the rest."""

    ids: NDArray[np.int64]
    """int64[n], ascending."""
    logprobs: NDArray[np.float64]
    """float64[n]; -inf = never; NaN = unknown."""
    rest: float = 0.0
    """Probability of the rest; NaN = unknown."""
    logits: NDArray[np.float64] | None = None
    """float64[n]: what the log-probabilities were made of, at `temperature`; None = they say it all."""
    temperature: float = 1.0

    def of(self, token: int) -> float:
        """Look up ln p of one id."""
        at = int(np.searchsorted(self.ids, token))
        if at < len(self.ids) and self.ids[at] == token:
            return float(self.logprobs[at])
        return -math.inf if self.rest == 0 else math.nan

    def entropy(self) -> float:
        """H in nats; NaN with a rest."""
        if self.rest != 0:
            return math.nan
        p = np.exp(self.logprobs)
        return max(0.0, -float((p[p > 0] * self.logprobs[p > 0]).sum()))


def in_order(row: Known, temperature: float) -> FilterState:
    """Lay a row out in the total order, its masses at a temperature; 0 = certainty of the first."""
    order = [at for at in np.lexsort((row.ids, -row.logits)) if row.logits[at] > -math.inf]
    if not order:
        raise Undecidable  # all that may be drawn was not sent
    logits = row.logits[order]
    if temperature == 0:
        masses = np.where(np.arange(len(order)) == 0, 1.0, 0.0)
    else:
        masses = np.exp((logits - logits[0]) / temperature)
    rest = 0.0
    if row.has_rest:
        rest = exp(row.rest - logits[0]) if temperature == 1 else math.nan
    return FilterState(
        ids=row.ids[order],
        logits=logits,
        masses=masses,
        origin=float(logits[0]),
        temperature=temperature,
        kept=np.ones(len(order), bool),
        rest=rest,
        units=weigh(row, order, temperature),
        certain=int((logits >= row.bound).sum()) if row.has_rest else len(order),
        above=int((logits > row.bound).sum()) if row.has_rest else len(order),
        listed=row.vocab_size,
    )


def softmax(row: Known, temperature: float) -> Distribution:
    """Take the softmax of row / T, over the known and the rest."""
    if not row.logits.max(initial=-math.inf) > -math.inf:
        return Distribution(ids=row.ids, logprobs=row.logits, rest=1.0)
    if temperature == 0:
        first = in_order(row, 0.0).ids[0]
        return Distribution(ids=row.ids, logprobs=np.where(row.ids == first, 0.0, -math.inf))
    scaled = (row.logits - row.logits.max()) / temperature
    rest = 0.0
    if row.has_rest:
        rest = exp(row.rest - row.logits.max()) if temperature == 1 else math.nan
    total = float(np.exp(scaled).sum()) + rest
    return Distribution(
        ids=row.ids,
        logprobs=scaled - math.log(total),
        rest=rest / total if rest else 0.0,
        logits=row.logits,
        temperature=temperature,
    )


def processed(state: FilterState, *, is_greedy: bool) -> Distribution:
    """Renormalise what was kept: the distribution that is drawn from."""
    is_first = np.cumsum(state.kept) == 1
    if is_greedy or state.temperature == 0:
        logprobs = np.where(is_first & state.kept, 0.0, -math.inf)
    else:
        scaled = (state.logits - state.origin) / state.temperature
        logprobs = np.where(state.kept, scaled - math.log(state.total), -math.inf)
    by_id = np.argsort(state.ids)
    rest = state.rest / state.total if state.rest else 0.0
    if is_greedy or state.temperature == 0:
        return Distribution(ids=state.ids[by_id], logprobs=logprobs[by_id], rest=rest)
    return Distribution(
        ids=state.ids[by_id],
        logprobs=logprobs[by_id],
        rest=rest,
        logits=state.logits[by_id],
        temperature=state.temperature,
    )


def successive(own: Distribution, samples: list[int], *, is_certain: bool) -> list[float]:
    """Compute ln p of successive draws without replacement, each given the ones before it."""
    if is_certain or math.isnan(own.rest):
        return [0.0 if is_certain else math.nan] * len(samples)
    logprobs, left = [], own.logprobs.copy()
    for token in samples:
        at = int(np.searchsorted(own.ids, token))
        finite = left[left > -math.inf]
        if not len(finite):  # T = 0: what comes next is certain
            logprobs.append(0.0)
            continue
        largest = float(finite.max())
        gaps = finite - largest
        if own.logits is not None:  # of which less was lost beside what has been drawn
            logits = own.logits[left > -math.inf]
            gaps = (logits - logits.max()) / own.temperature
        mass = float(np.exp(gaps).sum()) + own.rest * exp(-largest)
        gap = float(gaps[np.count_nonzero(left[:at] > -math.inf)]) if left[at] > -math.inf else -math.inf
        logprobs.append(gap - math.log(mass))
        left[at] = -math.inf
    return logprobs
