"""From a gRPC status to a typed error: the codes, the details and the retry hints, decoded here and nowhere else.

grpcio-status is no dependency of the client: the status proto in ``grpc-status-details-bin`` is parsed by hand with
googleapis-common-protos. Rule 1: nothing here raises on a malformed detail; a status always becomes an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from samplerd_client import errors

if TYPE_CHECKING:
    from samplerd.v1 import sampler_pb2 as pb

__all__ = ["Metadata", "error_from_rpc", "error_from_status", "pushback_s"]

Metadata = Iterable[tuple[str, str | bytes]]

_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"

_TOO_LARGE = "larger than max"
"""Part of the text with which gRPC itself refuses a message, on either side."""

_TOO_LARGE_REASONS = {"MESSAGE_TOO_LARGE", "REPLY_TOO_LARGE"}
"""The reasons with which samplerd does: of a request that is inflated, and of a reply beyond ``--reply-bytes``."""

_NO_PUSHBACK = -1.0


@dataclass(slots=True)
class _Details:
    """The decoded details of a status."""

    reason: str = ""
    retry_after_s: float | None = None
    request_id: str = ""
    violations: list[errors.FieldViolation] = field(default_factory=list)
    row_errors: list[errors.RowError] = field(default_factory=list)


def pushback_s(metadata: Metadata) -> float | None:
    """Return the server's retry hint in seconds; negative = do not retry; None = it gave none.

    As gRPC's retry design has it, a value that is no number means do not retry.
    """
    for key, value in metadata:
        if key == _PUSHBACK_KEY:
            try:
                milliseconds = int(value)
            except ValueError:
                return _NO_PUSHBACK
            return milliseconds / 1000.0 if milliseconds >= 0 else _NO_PUSHBACK
    return None


def error_from_rpc(error: grpc.aio.AioRpcError) -> errors.SamplerdError:
    """Return the typed error of a failed call; never raises."""
    metadata: list[tuple[str, str | bytes]] = [(str(key), value) for key, value in error.trailing_metadata() or ()]
    status = status_pb2.Status()
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                status = status_pb2.Status()
    code: int = error.code().value[0]
    details = _read_details(status)
    hint = pushback_s(metadata)
    if hint is not None:
        details.retry_after_s = hint
    return _make(code, error.details() or status.message or error.code().name, details)


def error_from_status(status: status_pb2.Status) -> errors.SamplerdError:
    """Return the typed error of a request that failed on a stream; never raises."""
    return _make(status.code, status.message, _read_details(status))


def row_error(message: pb.RowError) -> errors.RowError:
    """Return a row's error."""
    reason = errors.RowErrorReason(int(message.reason))
    return errors.RowError(row=message.row, reason=reason, message=message.message, code=message.code)


def _read_details(status: status_pb2.Status) -> _Details:
    details = _Details()
    for packed in status.details:
        try:
            if packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad_request = error_details_pb2.BadRequest.FromString(packed.value)
                for violation in bad_request.field_violations:
                    _read_violation(violation, details)
            elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                delay = error_details_pb2.RetryInfo.FromString(packed.value).retry_delay
                details.retry_after_s = delay.seconds + delay.nanos * 1e-9
            elif packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                details.reason = error_details_pb2.ErrorInfo.FromString(packed.value).reason
            elif packed.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
                details.request_id = error_details_pb2.RequestInfo.FromString(packed.value).request_id
        except DecodeError:
            continue
    return details


_ROW_FIELD = re.compile(r"row\[(\d+)\]")
"""How the server names a row, rather than a field, of a call whose rows all failed."""


def _read_violation(violation: error_details_pb2.BadRequest.FieldViolation, details: _Details) -> None:
    row = _ROW_FIELD.fullmatch(violation.field)
    if row is None:
        entry = errors.FieldViolation(field=violation.field, description=violation.description)
        details.violations.append(entry)
        return
    reason = errors.RowErrorReason.__members__.get(violation.reason, errors.RowErrorReason.UNSPECIFIED)
    failed = errors.RowError(row=int(row[1]), reason=reason, message=violation.description)
    details.row_errors.append(failed)


_BY_CODE: dict[int, type[errors.SamplerdError]] = {
    grpc.StatusCode.ALREADY_EXISTS.value[0]: errors.AlreadyExistsError,
    # A call that its own caller cancels never gets here: a server that ends its connections cancelled it.
    grpc.StatusCode.CANCELLED.value[0]: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0]: errors.DeadlineError,
    grpc.StatusCode.NOT_FOUND.value[0]: errors.NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED.value[0]: errors.PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: errors.OverloadedError,
    grpc.StatusCode.UNAUTHENTICATED.value[0]: errors.UnauthenticatedError,
    grpc.StatusCode.UNAVAILABLE.value[0]: errors.UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED.value[0]: errors.NotImplementedFieldError,
}
"""The errors that have only a text, a reason and a retry hint; any other code is an InternalError."""

_INVALID = {
    grpc.StatusCode.FAILED_PRECONDITION.value[0],
    grpc.StatusCode.INVALID_ARGUMENT.value[0],
    grpc.StatusCode.OUT_OF_RANGE.value[0],
}


def _make(code: int, message: str, details: _Details) -> errors.SamplerdError:
    error = _make_kind(code, message, details)
    error.request_id = details.request_id
    return error


def _make_kind(code: int, message: str, details: _Details) -> errors.SamplerdError:
    if code in _INVALID and details.row_errors and not details.violations:
        return errors.RowsFailedError(message, reason=details.reason, row_errors=tuple(details.row_errors))
    if code in _INVALID:
        return errors.InvalidRequestError(message, reason=details.reason, violations=tuple(details.violations))
    kind = _BY_CODE.get(code, errors.InternalError)
    if kind is errors.OverloadedError and (_TOO_LARGE in message or details.reason in _TOO_LARGE_REASONS):
        kind = errors.MessageTooLargeError
    error = kind(message, reason=details.reason, retry_after_s=details.retry_after_s)
    if isinstance(error, errors.NotImplementedFieldError) and details.violations:
        error.name = details.violations[0].field
    return error
