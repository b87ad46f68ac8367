"""The reference of classifier-free guidance: two rows of logits become one. Law: `sampling/guidance.py`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.arithmetic import exp2, ln, log2
from samplerd_server.sampling.guidance import formulas
from samplerd_server.sampling.masses import shift_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["guide", "log_softmax"]

_FORMULAS = formulas(exp2=exp2, log2=log2, where=np.where)


def guide(
    row: NDArray[np.float32], guidance: NDArray[np.float32], scale: float, *, is_weights: bool
) -> NDArray[np.float64]:
    """Compute the guided logits.

    Args:
        row: float32[V], logits or weights without fault.
        guidance: float32[V], the same.
        scale: finite; 1 gives the log_softmax of the row.
        is_weights: whether they are weights.

    Returns:
        float64[V] of float32 numbers; all -inf if either row has no category with positive probability.

    """
    with np.errstate(invalid="ignore", over="ignore"):
        c, u = (log_softmax(_logits(own) if is_weights else own.astype(np.float64)) for own in (row, guidance))
        return np.asarray(_FORMULAS.guided(c, u, scale), np.float64).astype(np.float32).astype(np.float64)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute log_softmax of logits, float64[V], with the masses of the law; -inf where nothing is above it."""
    largest = logits.max()
    if largest == -math.inf:
        return logits
    shift = shift_of(len(logits))
    masses = np.rint(_FORMULAS.relative_mass(logits, largest) * 2.0**shift)
    total = float(sum(int(mass) for mass in masses))
    return np.asarray(logits - _FORMULAS.normaliser(largest, total, shift), np.float64)


def _logits(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute ln w, rounded to float32."""
    with np.errstate(divide="ignore"):
        logits = ln(weights.astype(np.float64))
    return np.asarray(logits, np.float32).astype(np.float64)
