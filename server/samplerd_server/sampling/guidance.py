"""Classifier-free guidance: two rows of logits become one. One text for every sampler, and the same bits from each.

Law: with c and u the log_softmax of the row and of its guidance row, the guided logit is ``u + scale (c - u)``, rounded
to float32 and kept within its range. A category that either row forbids (-inf) stays forbidden, whatever the scale. Of
weights the logits are ln w, rounded to float32.

A log_softmax is ``x - (largest + (log2 Z - SHIFT) ln 2)``, Z being the sum of the row's masses, which are the whole
numbers of `masses.py` at T = 1: their sum is exact, so it does not depend on the order in which they are added, and is
rounded once, to float64. All else is the arithmetic of `arithmetic.py`.

Source: Sanchez et al., 2023 (Stay on topic with classifier-free guidance); the scale as in transformers
(UnbatchedClassifierFreeGuidanceLogitsProcessor) and in llama.cpp (llama_sample_apply_guidance).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from samplerd_server.sampling.arithmetic import LN_2, LOG2_E
from samplerd_server.sampling.masses import LOWEST

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Formulas", "formulas"]

_NEVER = float("-inf")
_LARGEST = 3.4028234663852886e38
"""The largest float32."""


class Formulas(NamedTuple):
    """The formulas of one implementation; each takes and returns float64 numbers, or arrays of them."""

    relative_mass: Callable[[Any, Any], Any]
    """Takes x, perhaps -inf, and the largest of its row, which is finite; returns exp(x - largest)."""
    normaliser: Callable[[Any, Any, Any], Any]
    """Takes the largest of a row, the sum of its masses and their shift; returns ln of the sum of exp(x)."""
    guided: Callable[[Any, Any, Any], Any]
    """Takes c and u, log_softmax of both rows, and the scale; returns the guided logit, not rounded to float32 yet."""


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def formulas(
    *,
    exp2: Callable[[Any], Any],
    log2: Callable[[Any], Any],
    where: Callable[[Any, Any, Any], Any],
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = _same,
) -> Formulas:
    """Make the formulas of one implementation.

    Args: exp2, log2, those of `arithmetic.py`; where, the second or the third by the first; compiled, a decorator.
    """

    @compiled
    def relative_mass(x: Any, largest: Any) -> Any:
        t = (x - largest) * LOG2_E
        return exp2(where(t > LOWEST, t, LOWEST))

    @compiled
    def normaliser(largest: Any, total: Any, shift: Any) -> Any:
        return largest + (log2(total) - shift) * LN_2

    @compiled
    def guided(c: Any, u: Any, scale: Any) -> Any:
        logit = (c - u) * scale + u
        logit = where(logit > _LARGEST, _LARGEST, logit)
        logit = where(logit < -_LARGEST, -_LARGEST, logit)
        return where((c > _NEVER) & (u > _NEVER), logit, _NEVER)

    return Formulas(relative_mass, normaliser, guided)
