"""Errors as google.rpc.Status with details, and the gRPC trailers that carry it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from samplerd_server.core.errors import (
    Code,
    InvalidRequestError,
    NotImplementedFieldError,
    OverloadedError,
    SamplerdError,
    UnavailableError,
    cut,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.result import RowError, SampleResult

__all__ = ["AllRowsFailedError", "check_any_row_drawn", "status_of", "trailers_of"]

_DOMAIN = "samplerd.v1"
_PUSHBACK = "grpc-retry-pushback-ms"
_REQUEST_ID = "x-request-id"
_MAX_VIOLATIONS = 16
"""The details are sent in a trailer, and clients accept 8 KiB of trailers by default."""


class AllRowsFailedError(InvalidRequestError):
    """Expected: every row of a unary request failed, so the call does."""

    reason = "ALL_ROWS_FAILED"

    def __init__(self, errors: Sequence[RowError]) -> None:
        first = errors[0]
        who = "the only row failed" if len(errors) == 1 else f"all {len(errors)} rows failed; the first"
        super().__init__(f"row[{first.row}]", f"{who}: {first.message}")
        self.errors = tuple(errors)


def check_any_row_drawn(request: SampleRequest, result: SampleResult) -> None:
    """Fail a request of which no row could be drawn from.

    Raises:
        AllRowsFailedError: every row failed.

    """
    if len(result.row_errors) == request.rows:
        raise AllRowsFailedError(result.row_errors)


def status_of(error: SamplerdError, request_id: str) -> status_pb2.Status:
    """Describe an error as google.rpc.Status, with ErrorInfo, the details that its class has, and RequestInfo.

    Args:
        error: the error.
        request_id: the id of the call that it ends, or in which it fails one request.

    """
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=_reason(error), domain=_DOMAIN)]
    if isinstance(error, AllRowsFailedError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=f"row[{row.row}]", description=cut(row.message)[:256], reason=row.reason.name
            )
            for row in error.errors[:_MAX_VIOLATIONS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    elif isinstance(error, InvalidRequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=cut(error.field), description=cut(error.description)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    elif isinstance(error, NotImplementedFieldError):
        violation = error_details_pb2.BadRequest.FieldViolation(field=cut(error.name), description="not implemented")
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    elif (retry_after_s := _retry_after_s(error)) is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMicroseconds(round(retry_after_s * 1e6))
        details.append(info)
    details.append(error_details_pb2.RequestInfo(request_id=request_id))
    status = status_pb2.Status(code=int(error.code), message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _reason(error: SamplerdError) -> str:
    return error.reason.upper()


def _retry_after_s(error: SamplerdError) -> float | None:
    return error.retry_after_s if isinstance(error, OverloadedError | UnavailableError) else None


def trailers_of(error: SamplerdError, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """Give the trailing metadata of a call with this request id that ends with this error."""
    trailers: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", status_of(error, request_id).SerializeToString()),
        (_REQUEST_ID, request_id),
    ]
    if (retry_after_s := _retry_after_s(error)) is not None:
        trailers.append((_PUSHBACK, str(max(1, round(retry_after_s * 1e3)))))
    elif error.code is Code.RESOURCE_EXHAUSTED:
        trailers.append((_PUSHBACK, "-1"))  # without it clients would try again, and be refused again
    return tuple(trailers)
