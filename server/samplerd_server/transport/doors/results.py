"""Results as messages, from the engine to a door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.result import SampleResult, Timing

if TYPE_CHECKING:
    from samplerd_server.core.result import VerifyResult

__all__ = ["read_result", "write_result"]


def write_result(result: SampleResult | VerifyResult) -> Any:
    """Give the message of a result: of samples alone, the usual case, without making an object of it."""
    if (
        isinstance(result, SampleResult)
        and not result.row_errors
        and not result.logprobs
        and result.ranks is None
        and not result.entropies
        and result.kept_count is None
        and result.adaptive_weighted_sum is None
    ):
        return (result.samples.tobytes(), *result.timing)
    return result


def read_result(message: Any) -> SampleResult | VerifyResult:
    """Make a result again."""
    if type(message) is tuple:
        samples, queue_s, compute_s, batch_rows = message
        return SampleResult(
            samples=np.frombuffer(samples, np.int32), row_errors=(), timing=Timing(queue_s, compute_s, batch_rows)
        )
    result: SampleResult | VerifyResult = message
    return result
