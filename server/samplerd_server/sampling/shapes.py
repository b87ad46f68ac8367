"""What shapes the distribution once more after all filters: adaptive-p, or skew. One text for every sampler.

Law: let y be the logits of what is kept, float32 (of weights ln w), at the temperature T of the draw, m their masses
as whole numbers (`sampling.masses`), relative to the largest that is kept, and Z their sum.

adaptive-p: with p = m / Z and d = abs(p - target) / `WIDTH`, the new logit is `PEAK - SHARPNESS d^2 / (1 + d)`. The
target is `2 adaptive_target - mean`, within [0, 1]; the mean is adaptive_weighted_sum / adaptive_total_weight, or
adaptive_target where the weight is 0. Source: llama.cpp, llama_sampler_init_adaptive_p.

The next state, if a sample is taken, is `p + adaptive_decay x adaptive_weighted_sum` and
`1 + adaptive_decay x adaptive_total_weight`, with p that of the sample.

skew: with c the cumulative sums of m / Z along the total order of y, and k = e^skew, the new logit is ln of
`c_i^k - c_(i-1)^k`, or of 2^-1000 if that is less. Source: exllamav2, which raises the uniform of the draw to the power
e^-skew and looks for it among c: the same law.

New logits are rounded to float32, and T is 1 from there on. At T = 0, certainty of the most likely, nothing changes,
and p of a sample is 1.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LEAST", "PEAK", "SHARPNESS", "WIDTH", "adaptive_logit", "is_shaped", "moving_target"]

WIDTH, PEAK, SHARPNESS = 0.3, 5.0, 10.0
LEAST = 2.0**-1000
"""The least mass that skew gives."""


def is_shaped(row: Any) -> Any:
    """Tell whether adaptive-p or skew is on. Takes what `parameters.Filter.is_on` takes."""
    return (row.adaptive_target > 0) | (row.skew != 0)


def moving_target(target: float, weighted_sum: float, total_weight: float) -> float:
    """Find the probability that adaptive-p prefers. Also compiled."""
    mean = weighted_sum / total_weight if total_weight > 0 else target
    return min(max(2.0 * target - mean, 0.0), 1.0)


def adaptive_logit(p: Any, target: Any) -> Any:
    """Give the new logit of a probability. Takes what has the operators of numbers."""
    d = abs(p - target) / WIDTH
    return PEAK - SHARPNESS * (d * d) / (1.0 + d)
