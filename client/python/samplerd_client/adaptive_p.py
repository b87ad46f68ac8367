"""The state of adaptive-p, which the server computes and the client keeps: what one sequence has drawn so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplerd_client.result import SampleResult

__all__ = ["AdaptiveP"]

_MAX_DECAY = 0.99


class AdaptiveP:
    """Adaptive-p of one sequence: its parameters for the next draw, and what each draw changes.

    Law: docs/sampling.md; llama.cpp's adaptive-p sampler. Ask for ``adaptive_state=True``, send `fields`, and give each
    result to `update`.
    """

    __slots__ = ("decay", "target", "total_weight", "weighted_sum")

    def __init__(self, target: float, decay: float = 0.9) -> None:
        """Begin as if the target had been met so far.

        Args:
            target: the mean probability that is aimed at, above 0 and at most 1.
            decay: what each token leaves of the weight of those before it, from 0 to 0.99; 0.9 looks at some ten.

        Raises:
            ValueError: one of them is out of range.

        """
        if not 0 < target <= 1:
            raise ValueError(f"target is above 0 and at most 1; got {target}")
        if not 0 <= decay <= _MAX_DECAY:
            raise ValueError(f"decay is from 0 to {_MAX_DECAY}; got {decay}")
        self.target, self.decay = target, decay
        self.weighted_sum, self.total_weight = target / (1 - decay), 1 / (1 - decay)

    @property
    def fields(self) -> dict[str, float]:
        """The sampling parameters of the next draw, by name."""
        return {
            "adaptive_target": self.target,
            "adaptive_weighted_sum": self.weighted_sum,
            "adaptive_total_weight": self.total_weight,
            "adaptive_decay": self.decay,
        }

    def update(self, result: SampleResult, row: int = 0, draw: int = 0) -> None:
        """Take the state that follows one sample.

        Args:
            result: the answer to a request with ``adaptive_state=True``.
            row: the row of the result, from 0.
            draw: which of the row's samples the sequence goes on with, from 0.

        Raises:
            ValueError: the result lacks the state, or the row failed; the state is as it was.

        """
        if result.adaptive_weighted_sum is None or result.adaptive_total_weight is None:
            raise ValueError("adaptive-p needs adaptive_state=True")
        weighted_sum = float(result.adaptive_weighted_sum[row, draw])
        if math.isnan(weighted_sum):
            raise ValueError(f"row {row} failed")
        self.weighted_sum, self.total_weight = weighted_sum, float(result.adaptive_total_weight[row, draw])
