"""Errors on the wire: code, details, trailers, and their size."""

from __future__ import annotations

import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from samplerd_server.core import errors
from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotImplementedFieldError,
    OverloadedError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.core.result import RowError, SampleResult, Timing
from samplerd_server.transport.codec.status import AllRowsFailedError, check_any_row_drawn, status_of, trailers_of
from tests.support.requests import request

DETAILS = {
    cls.DESCRIPTOR.full_name: cls
    for cls in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.RequestInfo,
    )
}


def details(error: SamplerdError) -> list:
    """The details as messages but the last, which is the request id, by way of the trailer's bytes."""
    trailers = dict(trailers_of(error, "an-id"))
    assert trailers["x-request-id"] == "an-id"
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status == status_of(error, "an-id")
    # Go's clients take the details only where code and message are those of the call.
    assert (status.code, status.message) == (error.code, error.message)
    *found, request = [DETAILS[detail.TypeName()].FromString(detail.value) for detail in status.details]
    assert request == error_details_pb2.RequestInfo(request_id="an-id")
    return found


OVERLOADED = OverloadedError("full", reason="queue_rows", retry_after_s=0.25)
ALL = [
    InvalidRequestError("tensor.data", "too short"),
    NotImplementedFieldError("params.top_k"),
    DeadlineError("late"),
    UnavailableError("draining"),
    InternalError(),
    OVERLOADED,
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_every_error_says_its_reason_in_upper_snake(error):
    info = details(error)[0]
    assert info.domain == "samplerd.v1"
    assert info.reason == error.reason.upper()
    assert info.reason.replace("_", "").isalpha()


def test_bad_requests_name_their_field():
    _, bad = details(InvalidRequestError("tensor.data", "too short"))
    assert [(v.field, v.description) for v in bad.field_violations] == [("tensor.data", "too short")]
    _, bad = details(NotImplementedFieldError("params.top_k"))
    assert [(v.field, v.description) for v in bad.field_violations] == [("params.top_k", "not implemented")]


def test_overload_says_when_to_come_back():
    _, retry = details(OVERLOADED)
    assert retry.retry_delay.ToMilliseconds() == 250
    assert dict(trailers_of(OVERLOADED, "x"))["grpc-retry-pushback-ms"] == "250"
    soon = OverloadedError("full", reason="queue_rows", retry_after_s=1e-6)
    # 0 would be at once, and a negative number never.
    assert dict(trailers_of(soon, "x"))["grpc-retry-pushback-ms"] == "1"


@pytest.mark.parametrize("error", [error for error in ALL if error is not OVERLOADED], ids=lambda e: type(e).__name__)
def test_only_overload_pushes_back(error):
    assert "grpc-retry-pushback-ms" not in dict(trailers_of(error, "x"))


@pytest.mark.parametrize(
    "error",
    [errors.FullError("full"), errors.MessageTooLargeError("it", 5), errors.ReplyTooLargeError(6, 5)],
    ids=lambda error: type(error).__name__,
)
def test_what_is_refused_for_good_forbids_another_attempt(error):
    """Without a hint clients try RESOURCE_EXHAUSTED again."""
    assert len(details(error)) == 1
    assert dict(trailers_of(error, "x"))["grpc-retry-pushback-ms"] == "-1"


def test_the_text_of_an_internal_error_is_fixed():
    assert InternalError().message == "internal error; the server's log has the cause"
    assert len(details(InternalError())) == 1


def failed(count: int, message: str = "NaN at id 3") -> SampleResult:
    return SampleResult(
        samples=np.full(count, -1, np.int32),
        row_errors=tuple(RowError(row=row, reason=RowErrorReason.NAN, message=message) for row in range(count)),
        timing=Timing(queue_s=0, compute_s=0, batch_rows=count),
    )


def test_a_request_fails_only_if_all_its_rows_do():
    check_any_row_drawn(request(np.zeros((3, 2))), failed(2))
    with pytest.raises(AllRowsFailedError) as caught:
        check_any_row_drawn(request(np.zeros((2, 2))), failed(2))
    error = caught.value
    assert error.code is errors.Code.INVALID_ARGUMENT
    assert error.message == "row[0]: all 2 rows failed; the first: NaN at id 3"
    assert AllRowsFailedError(failed(1).row_errors).message == "row[0]: the only row failed: NaN at id 3"
    info, bad = details(error)
    assert info.reason == "ALL_ROWS_FAILED"
    assert [(v.field, v.description, v.reason) for v in bad.field_violations] == [
        ("row[0]", "NaN at id 3", "NAN"),
        ("row[1]", "NaN at id 3", "NAN"),
    ]


def test_details_fit_the_8_kib_of_trailers_that_clients_take():
    with pytest.raises(AllRowsFailedError) as caught:
        check_any_row_drawn(request(np.zeros((4096, 2))), failed(4096, "x" * 256))
    _, bad = details(caught.value)
    assert len(bad.field_violations) == 16
    in_base64 = len(dict(trailers_of(caught.value, "~" * 128))["grpc-status-details-bin"]) * 4 // 3
    assert in_base64 + len(caught.value.message) < 8192


def test_every_error_has_a_code_of_its_own_and_only_the_hopeful_are_retryable():
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, SamplerdError)]
    leaves = [cls for cls in classes if cls is not SamplerdError]
    # A store that is full and a message or reply that is too large are no busy server: they say RESOURCE_EXHAUSTED too,
    # and are not worth asking again.
    exhausted = {errors.FullError, errors.MessageTooLargeError, errors.ReplyTooLargeError}
    assert len({cls.code for cls in leaves if cls not in exhausted}) == len(leaves) - len(exhausted)
    assert {cls.code for cls in exhausted} == {OverloadedError.code}
    assert {cls for cls in leaves if cls.retryable} == {OverloadedError, UnavailableError}
