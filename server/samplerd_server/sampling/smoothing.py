"""Quadratic smoothing: logits bent directly after the temperature. One text for every sampler.

Law: with d = (x - largest) / T, not below `FARTHEST`, a finite logit x becomes
`factor x d^2 x ((curve - 1) / 2 x d - (3 - curve) / 2)`, in binary64 in the order below, which then saturates at the
largest float32 and is rounded to float32; T is 1 from there on. -inf stays. At T = 0, certainty of the most likely,
nothing is bent. Up to `MONOTONE` the curve keeps the order of the logits.
Source: text-generation-webui, QuadraticSamplingLogitsWarper.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FARTHEST", "MONOTONE", "bend"]

FARTHEST = -1e30
"""Distances below this are taken to be it, so that no product of finite numbers is NaN."""
MONOTONE = 3.0
"""With a larger curve some logits rise above the largest."""


def bend(distance: Any, factor: Any, curve: Any) -> Any:
    """Bend a logit that lies at a distance, <= 0, of the largest. Takes what has the operators of numbers."""
    return ((curve - 1.0) * 0.5 * distance - (3.0 - curve) * 0.5) * (distance * distance) * factor
