"""A failed row's status in words."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_server.batching.row_errors import row_errors
from samplerd_server.core.enums import RowErrorReason, Step
from samplerd_server.sampling.rows import RowResults
from tests.support.requests import request


def results(status, detail) -> RowResults:
    return RowResults(
        samples=np.zeros(1, np.int32), status=np.array(status, np.int32), detail=np.array(detail, np.int64)
    )


def test_rows_are_numbered_within_their_request():
    got = results([0, 1, 0, 1, 2], [0, 5, 0, 6, 7])
    errors = row_errors(request(np.zeros((3, 2))), got, 2)
    assert [(e.row, e.reason, e.message) for e in errors] == [
        (1, RowErrorReason.NAN, "NaN at id 6"),
        (2, RowErrorReason.POSITIVE_INFINITY, "+inf, or a value beyond the range of binary32, at id 7"),
    ]
    assert row_errors(request(np.zeros((1, 2))), got, 0) == ()


@pytest.mark.parametrize(
    ("reason", "detail", "words"),
    [
        (RowErrorReason.NAN, 131071, "NaN at id 131071"),
        (RowErrorReason.NEGATIVE_WEIGHT, 0, "negative weight at id 0"),
        (RowErrorReason.NAN, -8, "NaN at id 7 of the guidance row"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.GUIDANCE, "the guidance row leaves"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.INPUT, "the input has no category"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.MASK, "bad_words and no_repeat_ngram_size together leave no category"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.BIAS, "the logit bias leaves"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.PENALTIES, "the penalties leave"),
        (RowErrorReason.NOTHING_TO_DRAW, Step.FILTERS, "the filters leave"),
        (RowErrorReason.TOO_FEW_TO_DRAW, 2, "5 samples without replacement, but only 2 categories"),
        (RowErrorReason.OUTSIDE_CANDIDATES, 0, "falls outside the candidates"),
    ],
)
def test_every_reason_has_its_words(reason, detail, words):
    (error,) = row_errors(request([[0.0]], num_samples=5), results([reason], [detail]), 0)
    assert words in error.message
    assert error.reason is reason


def test_no_reason_is_without_words():
    for reason in RowErrorReason:
        if reason:
            assert row_errors(request([[0.0]]), results([reason], [0]), 0)[0].message
