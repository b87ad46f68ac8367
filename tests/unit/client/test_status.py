"""Statuses and trailers that servers and proxies may send, well-formed or not."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from samplerd_client.errors import (
    InternalError,
    InvalidRequestError,
    MessageTooLargeError,
    OverloadedError,
    RowErrorReason,
    SamplerdError,
    UnavailableError,
)
from samplerd_client.status import error_from_rpc, error_from_status, pushback_s


def rpc_error(code: grpc.StatusCode, details: str | None = "text", trailers: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=details)


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0.0), ("250", 0.25), ("-1", -1.0), ("-99", -1.0), ("", -1.0), ("1.5", -1.0)]
)
def test_pushback(value: str, seconds: float) -> None:
    assert pushback_s([("other", "1"), ("grpc-retry-pushback-ms", value)]) == seconds


def test_no_pushback() -> None:
    assert pushback_s([("other", "1")]) is None


def test_pushback_beats_retry_info() -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromSeconds(9)
    status = status_pb2.Status(code=8)
    status.details.append(packed(info))
    trailers = [("grpc-retry-pushback-ms", "20"), ("grpc-status-details-bin", status.SerializeToString())]
    error = error_from_rpc(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=trailers))
    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == 0.02


def test_an_error_that_is_gone_on_the_way_still_has_its_code() -> None:
    error = error_from_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, details=None))
    assert isinstance(error, UnavailableError)
    assert error.message == "UNAVAILABLE"


@pytest.mark.parametrize("reason", ["MESSAGE_TOO_LARGE", "REPLY_TOO_LARGE"])
def test_what_the_server_says_is_too_large_is_no_overload(reason: str) -> None:
    status = status_pb2.Status(code=8, message="it is large")
    status.details.append(packed(error_details_pb2.ErrorInfo(reason=reason)))
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    for error in (
        error_from_rpc(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=trailers)),
        error_from_status(status),
    ):
        assert isinstance(error, MessageTooLargeError)
        assert (error.reason, error.is_retryable) == (reason, False)


def test_messages_over_a_limit_are_no_overload() -> None:
    for text in (
        "CLIENT: Received message larger than max (5 vs. 4)",
        "SERVER: Received message larger than max (5 vs. 4)",
    ):
        error = error_from_rpc(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
        assert isinstance(error, MessageTooLargeError)
        assert not error.is_retryable


def test_rows_and_fields_in_one_status_are_a_bad_request() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="row[3]", description="d", reason="NEW_REASON")
    status = status_pb2.Status(code=3, message="m", details=[packed(bad)])
    failed = error_from_status(status)
    assert failed.row_errors[0].reason is RowErrorReason.UNSPECIFIED  # type: ignore[attr-defined]
    bad.field_violations.add(field="params", description="d")
    mixed = error_from_status(status_pb2.Status(code=3, message="m", details=[packed(bad)]))
    assert type(mixed) is InvalidRequestError


def test_unknown_codes() -> None:
    assert type(error_from_status(status_pb2.Status(code=77, message="m"))) is InternalError


@given(
    code=st.integers(-5, 99),
    blob=st.binary(max_size=60),
    kind=st.sampled_from(["BadRequest", "RetryInfo", "ErrorInfo"]),
)
def test_details_that_are_rubbish_do_not_hide_the_error(code: int, blob: bytes, kind: str) -> None:
    detail = any_pb2.Any(type_url=f"type.googleapis.com/google.rpc.{kind}", value=blob)
    assert isinstance(error_from_status(status_pb2.Status(code=code, message="m", details=[detail])), SamplerdError)
    trailers = [("grpc-status-details-bin", blob)]
    assert isinstance(error_from_rpc(rpc_error(grpc.StatusCode.INTERNAL, trailers=trailers)), InternalError)


def packed(message: Any) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail
