"""The reference of what shapes a distribution after all filters: adaptive-p, or skew. Law: `sampling.shapes`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.masses import LOWEST
from samplerd_server.sampling.reference.adjust import Undecidable
from samplerd_server.sampling.shapes import LEAST, adaptive_logit, is_shaped, moving_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.sampling.reference.filters import FilterState

__all__ = ["shape"]


def shape(
    state: FilterState, params: SamplingParams, *, are_weights: bool
) -> tuple[FilterState, NDArray[np.float64] | None]:
    """Give what is kept new logits, at T = 1.

    Returns:
        What is drawn from; and float64[n], the probability of each category before, None where nothing is shaped.

    """
    if not is_shaped(params) or state.temperature == 0:
        return state, None
    if state.rest != 0:
        raise Undecidable
    logits = state.logits[state.kept]
    if are_weights:
        logits = logits.astype(np.float32).astype(np.float64)
    order = np.lexsort((state.ids[state.kept], -logits))
    exponents = (logits[order] - logits.max()) * min(arithmetic.LOG2_E / state.temperature, 1e300)
    masses = np.rint(arithmetic.exp2(np.clip(exponents, LOWEST, 0.0)) * 2.0**state.units.shift).astype(np.int64)
    total = float(masses.sum())
    if params.skew != 0:
        ends = np.asarray(arithmetic.power(np.cumsum(masses).astype(np.float64) / total, arithmetic.exp(params.skew)))
        new = np.asarray(arithmetic.ln(np.maximum(np.diff(ends, prepend=0.0), LEAST)))
    else:
        target = moving_target(params.adaptive_target, params.adaptive_weighted_sum, params.adaptive_total_weight)
        new = adaptive_logit(masses.astype(np.float64) / total, target)
    shaped, before = np.full(len(state.logits), -np.inf), np.zeros(len(state.logits))
    places = np.flatnonzero(state.kept)[order]
    shaped[places], before[places] = new.astype(np.float32), masses.astype(np.float64) / total
    largest = float(shaped.max())
    drawn_from = replace(state, logits=shaped, masses=np.exp(shaped - largest), origin=largest, temperature=1.0)
    return drawn_from, before
