"""The reference's masses as whole numbers, and what is decided by them: `sampling.masses` says the law."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.masses import (
    LOWEST,
    NONE,
    PART,
    REST_BITS,
    UNKNOWN,
    shift_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.sampling.reference.adjust import Known

__all__ = ["Units", "deviation", "prefix_length", "reaches", "weigh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The masses of a row as whole numbers: `sampling.masses`."""

    shift: int
    """The mass of the largest is 2^shift."""
    exponents: NDArray[np.float64]
    """float64[n]: log2 of masses relative to the largest, along the total order; at least LOWEST."""
    masses: NDArray[np.int64]
    """int64[n], along the total order."""
    rest: int
    """Of the rest; UNKNOWN where it is not known, or NONE."""
    bound: int
    """No category of the rest has more."""
    logits: NDArray[np.float64]
    """float64[n]: logits, of weights ln w as float32, along the total order."""


def reaches(mass: Any, needed: int) -> Any:
    """Tell whether masses reach a threshold; see rule 2 of `sampling.masses`."""
    return mass + (mass >> PART) >= needed


def prefix_length(masses: NDArray[np.int64], needed: int) -> int | None:
    """Find the length of the shortest prefix that reaches a sum, by rule 2 of `sampling.masses`; None if none does."""
    ends = np.cumsum(masses)
    is_kept = (ends - masses) + (masses >> PART) < needed
    length = max(1, int(is_kept.sum()))
    return length if length < len(masses) or ends[-1] >= needed else None


def weigh(row: Known, order: list[int], temperature: float, first: int = 0) -> Units:
    """Weigh a row in whole numbers, along the total order, relative to its `first`: `sampling.masses`.

    What comes before `first` was dropped, and has a mass that means nothing.
    """
    shift = shift_of(row.vocab_size)
    logits, weights = row.logits[order], None if row.weights is None else row.weights[order]
    shares = None if weights is None else np.append(weights, row.bound_weight) / weights[first]
    exponents, masses = _masses(np.append(logits, row.bound) - logits[first], shares, temperature)
    units = np.rint(masses * 2.0**shift).astype(np.int64)
    if weights is not None:
        logits = np.asarray(arithmetic.ln(weights), np.float32).astype(np.float64)
    rest = NONE
    if row.has_rest:
        largest = float(logits[first] if weights is None else arithmetic.ln(weights[first]))
        rest = UNKNOWN if temperature != 1 or math.isnan(row.rest) else _rest_units(row.rest - largest, shift)
    return Units(
        shift=shift,
        exponents=exponents[:-1],
        masses=units[:-1],
        rest=rest,
        bound=int(units[-1]),
        logits=logits,
    )


def _masses(
    gaps: NDArray[np.float64], shares: NDArray[np.float64] | None, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute log2 of masses relative to that of the largest, at least LOWEST, and the masses.

    At T = 0 those equal to the largest have all the mass, and all of them the same: the limit of T to 0.

    Args: gaps, float64[n], logits less that one, and shares, float64[n], of weights in that one, or None.
    """
    if temperature == 0:
        exponents = np.where(gaps >= 0, 0.0, LOWEST)
    elif shares is None:
        exponents = np.clip(gaps * min(arithmetic.LOG2_E / temperature, 1e300), LOWEST, 0.0)
    else:
        exponents = np.clip(arithmetic.log2(shares) / temperature, LOWEST, 0.0)
    is_share = shares is not None and temperature == 1
    return exponents, np.minimum(shares, 1.0) if shares is not None and is_share else arithmetic.exp2(exponents)


def _rest_units(logit: float, shift: int) -> int:
    """Weigh the rest, of this logit relative to the largest."""
    exponent = min(max(logit * arithmetic.LOG2_E, LOWEST), float(REST_BITS - shift))
    return max(1, int(np.rint(float(arithmetic.exp2(exponent)) * 2.0**shift)))


def deviation(gaps: NDArray[np.float64], shift: int) -> float:
    """Compute the population's standard deviation of logits that lie `gaps` below the largest.

    Rule 4 of `sampling.masses`: gaps, float64[n]; a power of two above the largest of them is the unit.
    """
    _, exponent = math.frexp(float(gaps.max()))
    scale = 2.0 ** (shift - exponent)
    mean = float(np.rint(gaps * scale).astype(np.int64).sum()) / float(len(gaps)) / scale
    parts = (gaps - mean) / 2.0**exponent
    squares = float(np.rint(parts * parts * 2.0**shift).astype(np.int64).sum()) / float(len(gaps)) / 2.0**shift
    return math.sqrt(squares) * 2.0**exponent
