"""Requests whose rows were lost with the card that held them, and lay nowhere else: each fails as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.errors import UnavailableError
from samplerd_server.sampling.rows import LOST_ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.result import SampleResult
    from samplerd_server.sampling.rows import RowResults

__all__ = ["fail_lost"]


def fail_lost(
    requests: Sequence[SampleRequest], results: RowResults, answers: Sequence[SampleResult]
) -> Sequence[SampleResult | SamplerdError]:
    """Put errors in place of the answers to requests that have lost rows.

    Args:
        requests: those of a batch.
        results: what the sampler returned.
        answers: one for each request, as if no row was lost.

    """
    is_lost = results.status == LOST_ROW
    if not np.count_nonzero(is_lost):
        return answers
    own: list[SampleResult | SamplerdError] = []
    row = 0
    for request, answer in zip(requests, answers, strict=True):
        has_lost = is_lost[row : row + request.rows].any()
        own.append(UnavailableError("the card that held the rows is lost") if has_lost else answer)
        row += request.rows
    return own
