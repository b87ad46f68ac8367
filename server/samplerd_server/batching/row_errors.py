"""The message that a caller gets for a failed row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.core.enums import RowErrorReason, Step
from samplerd_server.core.result import RowError

if TYPE_CHECKING:
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.sampling.rows import RowResults

__all__ = ["describe", "row_errors"]


def row_errors(request: SampleRequest, results: RowResults, first: int) -> tuple[RowError, ...]:
    """Describe the failed rows of `request`, whose rows begin at `first` in the batch."""
    status = results.status[first : first + request.rows]
    return tuple(
        RowError(
            row=int(row),
            reason=RowErrorReason(int(status[row])),
            message=describe(RowErrorReason(int(status[row])), int(results.detail[first + row]), request.num_samples),
        )
        for row in (status > 0).nonzero()[0]  # requests with lost rows fail as a whole: `lost_rows.py`
    )


_STEP_NAMES = {
    Step.INPUT: "the input has no category with positive probability",
    Step.GUIDANCE: "the guidance row leaves no category with positive probability",
    Step.MASK: (
        "allowed_tokens, token_bitmask, bad_words and no_repeat_ngram_size together leave no category with positive "
        "probability"
    ),
    Step.BIAS: "the logit bias leaves no category with positive probability",
    Step.PENALTIES: "the penalties leave no category with positive probability",
    Step.FILTERS: "the filters leave no category with positive probability",
}


_MESSAGES = {
    RowErrorReason.NAN: "NaN at id {detail}",
    RowErrorReason.POSITIVE_INFINITY: "+inf, or a value beyond the range of binary32, at id {detail}",
    RowErrorReason.NEGATIVE_WEIGHT: "negative weight at id {detail}",
    RowErrorReason.TOO_FEW_TO_DRAW: "{samples} samples without replacement, but only {detail} categories can be drawn",
    RowErrorReason.OUTSIDE_CANDIDATES: "the draw, or a filter's cut, falls outside the candidates that were sent",
}


def describe(reason: RowErrorReason, detail: int, num_samples: int, failed_draft: int = -1) -> str:
    """Give the message for a failed row.

    Args:
        reason: why.
        detail: that of `RowResults`.
        num_samples: S.
        failed_draft: the draft's row whose numbers are at fault; -1 = it is the row itself.

    """
    if failed_draft >= 0:
        if reason is RowErrorReason.NOTHING_TO_DRAW:
            return f"draft row {failed_draft} has no category with positive probability"
        return f"{_MESSAGES[reason].format(detail=detail, samples=num_samples)} of draft row {failed_draft}"
    if reason is RowErrorReason.NOTHING_TO_DRAW:
        return _STEP_NAMES[Step(detail)]
    if detail < 0:  # an id of the guidance row
        return f"{_MESSAGES[reason].format(detail=-1 - detail, samples=num_samples)} of the guidance row"
    return _MESSAGES[reason].format(detail=detail, samples=num_samples)
