"""The reference, step 6: the temperature, fixed or dynamic, and quadratic smoothing directly after it. Float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.dry import LARGEST
from samplerd_server.sampling.masses import LOWEST
from samplerd_server.sampling.reference.adjust import Known, Undecidable
from samplerd_server.sampling.reference.distribution import exp, in_order
from samplerd_server.sampling.reference.filters import FilterState, entropy
from samplerd_server.sampling.reference.units import weigh
from samplerd_server.sampling.smoothing import FARTHEST, MONOTONE, bend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams

__all__ = ["heat", "rebase", "smooth", "temperature_of"]


def temperature_of(state: FilterState, params: SamplingParams) -> float:
    """T, or low + (high - low) x (H / ln V')^exponent."""
    spread = params.dynamic_temperature_range
    if spread == 0:
        return params.temperature
    count = state.listed if params.dynamic_temperature_counts_all else state.count
    share = entropy(state) / float(arithmetic.ln(float(count))) if count > 1 else 0.0
    with np.errstate(over="ignore"):
        lift = float(arithmetic.power(min(share, 1.0), params.dynamic_temperature_exponent)) if share > 0 else 0.0
    low, high = max(params.temperature - spread, 0.0), min(params.temperature + spread, arithmetic.HOTTEST)
    temperature = low + (high - low) * lift
    return max(temperature, arithmetic.COLDEST) if temperature > 0 else 0.0


def _bent(logits: Any, largest: float, temperature: float, params: SamplingParams) -> NDArray[np.float64]:
    """Bend logits, float32 as float64, relative to the largest of them: `sampling.smoothing`."""
    with np.errstate(over="ignore"):
        distance = np.maximum((np.asarray(logits) - largest) / temperature, FARTHEST)
        bent = bend(distance, params.smoothing_factor, params.smoothing_curve)
    rounded = np.asarray(np.clip(bent, -LARGEST, LARGEST), np.float32).astype(np.float64)
    return np.where(np.asarray(logits) == -math.inf, -math.inf, rounded)


def smooth(row: Known, temperature: float, params: SamplingParams) -> tuple[Known, float]:
    """Bend a whole row at a temperature: the row and the temperature from there on."""
    if params.smoothing_factor == 0 or temperature == 0:
        return row, temperature
    if row.has_rest and params.smoothing_curve > MONOTONE:
        raise Undecidable  # what was not sent may become the most likely
    row = row.as_logits().lowered_rest()
    largest = float(row.logits.max(initial=-math.inf))
    if largest == -math.inf:
        return row, 1.0
    bound = float(_bent(row.bound, largest, temperature, params))
    return replace(row, logits=_bent(row.logits, largest, temperature, params), bound=bound), 1.0


def rebase(state: FilterState) -> FilterState:
    """Take masses relative to the largest that is kept, so that they do not all underflow where others were dropped.

    At T = 0 the first that is kept is certain.
    """
    largest = float(state.logits[state.kept].max())
    if state.temperature == 0:
        is_first = state.kept & (np.cumsum(state.kept) == 1)
        return replace(state, masses=np.where(is_first, 1.0, 0.0), origin=largest)
    if state.rest != 0 or largest == state.origin:
        return state
    with np.errstate(over="ignore"):
        masses = np.where(state.kept, np.exp((state.logits - largest) / state.temperature), 0.0)
    return replace(state, masses=masses, origin=largest)


def heat(row: Known, state: FilterState, temperature: float, params: SamplingParams) -> FilterState:
    """Take what is kept to T, relative to the largest of it, and bend it; T = 0 is certainty of the first."""
    if params.smoothing_factor > 0 and temperature > 0:
        return _bend_kept(row, state, temperature, params)
    first = int(np.flatnonzero(state.kept)[0])
    largest = float(state.logits[first])
    if temperature == 0:
        masses = np.where(np.arange(len(state.kept)) == first, 1.0, 0.0)
    else:
        with np.errstate(over="ignore"):
            masses = np.where(state.kept, np.exp((state.logits - largest) / temperature), 0.0)
    rest = 0.0
    if state.has_rest:
        rest = exp(row.rest - largest) if temperature == 1 else math.nan
    units = weigh(row, np.searchsorted(row.ids, state.ids).tolist(), temperature, first)
    return replace(state, masses=masses, origin=largest, temperature=temperature, rest=rest, units=units)


def _bend_kept(row: Known, state: FilterState, temperature: float, params: SamplingParams) -> FilterState:
    """Bend what is kept: from here on it is a row of its own, of logits at T = 1."""
    whole = row.as_logits().lowered_rest()
    ids = np.sort(state.ids[state.kept])
    logits = whole.logits[np.searchsorted(whole.ids, ids)]
    largest = float(logits.max())
    own = replace(
        whole,
        ids=ids,
        logits=_bent(logits, largest, temperature, params),
        rest=whole.rest if state.has_rest else -math.inf,
        bound=float(_bent(whole.bound, largest, temperature, params)),
    )
    return _with_dropped(replace(in_order(own, 1.0), listed=state.listed), state.ids[~state.kept])


def _with_dropped(state: FilterState, ids: NDArray[np.int64]) -> FilterState:
    """Put what was dropped at the end of the order."""
    never, nothing = np.full(len(ids), -math.inf), np.zeros(len(ids))
    units = replace(
        state.units,
        exponents=np.append(state.units.exponents, nothing + LOWEST),
        masses=np.append(state.units.masses, nothing.astype(np.int64)),
        logits=np.append(state.units.logits, never),
    )
    return replace(
        state,
        ids=np.append(state.ids, ids),
        logits=np.append(state.logits, never),
        masses=np.append(state.masses, nothing),
        kept=np.append(state.kept, nothing > 0),
        units=units,
    )
