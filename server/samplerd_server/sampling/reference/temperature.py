"""The reference, step 6: the temperature, fixed or dynamic, and quadratic smoothing directly after it. Float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.dry import LARGEST
from samplerd_server.sampling.reference.adjust import Known, Undecidable
from samplerd_server.sampling.reference.filters import FilterState, entropy
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
    share = entropy(state) / float(arithmetic.ln(float(state.count))) if state.count > 1 else 0.0
    lift = float(arithmetic.power(min(share, 1.0), params.dynamic_temperature_exponent)) if share > 0 else 0.0
    return params.temperature - spread + 2.0 * spread * lift


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
    """Take masses relative to the largest that is kept, so that they do not all underflow where others were dropped."""
    largest = float(state.logits[state.kept].max())
    if state.rest != 0 or state.temperature == 0 or largest == state.origin:
        return state
    with np.errstate(over="ignore"):
        masses = np.where(state.kept, np.exp((state.logits - largest) / state.temperature), 0.0)
    return replace(state, masses=masses, origin=largest)


def heat(state: FilterState, temperature: float, params: SamplingParams) -> FilterState:
    """Take what the filters kept to a temperature that comes after them, and bend it."""
    logits, rest = state.logits, state.rest
    if params.smoothing_factor > 0 and temperature > 0:
        logits = np.where(state.kept, _bent(logits, float(logits[state.kept].max()), temperature, params), -math.inf)
        temperature, rest = 1.0, math.nan if rest != 0 else 0.0
    largest = float(logits[state.kept].max())
    if temperature == 0:
        masses = np.where(np.cumsum(state.kept) == 1, 1.0, 0.0)
    else:
        with np.errstate(over="ignore"):
            masses = np.where(state.kept, np.exp((logits - largest) / temperature), 0.0)
    if rest != 0:
        rest = rest * math.exp(state.origin - largest) if temperature == 1 else math.nan
    return replace(state, logits=logits, masses=masses, origin=largest, temperature=temperature, rest=rest)
