"""The state of adaptive-p after each sample, which the client sends with its next request. Law: `sampling.shapes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams

__all__ = ["next_states"]


def next_states(
    params: Sequence[SamplingParams], unshaped: NDArray[np.float64], has_failed: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the next state of each sample, as if the sequence went on with that one.

    Args:
        params: one for all rows, or one for each.
        unshaped: float64[B * S], `RowResults.unshaped`.
        has_failed: bool[B].

    Returns:
        adaptive_weighted_sum and adaptive_total_weight, float64[B * S] each: as they were sent where adaptive_target is
        0; NaN for failed rows.

    """
    own = [
        (row.adaptive_target, row.adaptive_weighted_sum, row.adaptive_total_weight, row.adaptive_decay)
        for row in params
    ]
    target, sums, weights, decay = np.array(own, np.float64).T[:, :, np.newaxis]
    p = unshaped.reshape(len(has_failed), -1)
    failed = has_failed[:, np.newaxis]
    sums = np.where(failed, np.nan, np.where(target > 0, p + decay * sums, sums))
    weights = np.where(failed, np.nan, np.where(target > 0, 1.0 + decay * weights, weights))
    return sums.ravel(), np.broadcast_to(weights, p.shape).ravel()
