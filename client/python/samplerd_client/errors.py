"""The exceptions that calls raise. The tree mirrors the server's errors.

::

    SamplerdError                    base of all errors below
    ├── InvalidRequestError          INVALID_ARGUMENT     no retry   fix the request; `violations` names the fields
    │   └── RowsFailedError          INVALID_ARGUMENT     no retry   rows could not be drawn from; `row_errors` says why
    ├── MessageTooLargeError         RESOURCE_EXHAUSTED   no retry   a message is over a limit of either side
    ├── NotImplementedFieldError     UNIMPLEMENTED        no retry   this server has no such field or RPC
    ├── NotFoundError                NOT_FOUND            no retry   no such distribution
    ├── AlreadyExistsError           ALREADY_EXISTS       no retry   the name of a distribution is taken
    ├── OverloadedError              RESOURCE_EXHAUSTED   retry      the queue is full, or would be late
    ├── DeadlineError                DEADLINE_EXCEEDED    no retry   the time given to the call is over
    ├── UnavailableError             UNAVAILABLE          retry      not reachable, not ready, or draining
    ├── ConnectionLostError          UNAVAILABLE          no retry   the stream broke, or the client was closed
    ├── UnauthenticatedError         UNAUTHENTICATED      no retry   no credentials, or wrong ones
    ├── PermissionDeniedError        PERMISSION_DENIED    no retry   the credentials do not allow this
    └── InternalError                INTERNAL and others  no retry   a bug in the server, or an inconsistent reply

Mistakes that the client itself can detect (an unknown keyword, a 3-D array) raise TypeError or ValueError instead, and
memory of a CUDA device that cannot be shared raises `cuda_driver.CudaMemoryError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

__all__ = [
    "AlreadyExistsError",
    "ConnectionLostError",
    "DeadlineError",
    "FieldViolation",
    "InternalError",
    "InvalidRequestError",
    "MessageTooLargeError",
    "NotFoundError",
    "NotImplementedFieldError",
    "OverloadedError",
    "PermissionDeniedError",
    "RowError",
    "RowErrorReason",
    "RowsFailedError",
    "SamplerdError",
    "UnauthenticatedError",
    "UnavailableError",
]


class RowErrorReason(IntEnum):
    """Why a row failed; the numbers of the proto's enum."""

    UNSPECIFIED = 0
    NAN = 1
    POSITIVE_INFINITY = 2
    NEGATIVE_WEIGHT = 3
    NOTHING_TO_DRAW = 4
    TOO_FEW_TO_DRAW = 5
    OUTSIDE_CANDIDATES = 6

    @classmethod
    def _missing_(cls, value: object) -> RowErrorReason:
        """Treat a reason that only a newer server knows as unspecified."""
        del value
        return cls.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class RowError:
    """A row that could not be drawn from; the other rows of its request were."""

    row: int
    """Index of the row in the request."""
    reason: RowErrorReason
    """Why it failed, for programs."""
    message: str
    """Why it failed, in words."""
    code: int = 3
    """The google.rpc.Code of the failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """A field of the request that the server refused."""

    field: str
    """Its path in the proto: ``tensor.data``, ``row_params[2].top_p``."""
    description: str
    """What is wrong with the field, and what is allowed."""


class SamplerdError(Exception):
    """Base of all errors of calls to samplerd."""

    is_retryable: ClassVar[bool] = False
    """Whether the retry policy may try the call again."""

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        """The message of the server, or of gRPC."""
        self.reason = reason
        """UPPER_SNAKE name for programs (google.rpc.ErrorInfo.reason); empty when the server gave none."""
        self.retry_after_s = retry_after_s
        """Seconds after which the call may be tried again: negative = never, None = the server did not say."""
        self.request_id = ""
        """What the server's log has the call under; empty when no server answered, or it did not say."""


class InvalidRequestError(SamplerdError):
    """The request is malformed or contradicts itself, or a value in it is out of range."""

    def __init__(self, message: str, *, reason: str = "", violations: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__(message, reason=reason)
        self.violations = violations
        """The fields that the server refused."""


class RowsFailedError(InvalidRequestError):
    """Rows could not be drawn from: every row of the call, or those that `SampleResult.raise_for_rows` found."""

    def __init__(self, message: str, *, reason: str = "", row_errors: tuple[RowError, ...] = ()) -> None:
        super().__init__(message, reason=reason)
        self.row_errors = row_errors
        """One for each failed row, in order of row."""


class MessageTooLargeError(SamplerdError):
    """A request or a reply is larger than a limit of the client or the server."""


class NotImplementedFieldError(SamplerdError):
    """This server does not know the field or the RPC."""

    name: str = ""
    """The field, as in the proto; empty when the server did not name one."""


class NotFoundError(SamplerdError):
    """The request names a distribution or region that does not exist."""


class AlreadyExistsError(SamplerdError):
    """A distribution of this name exists already."""


class OverloadedError(SamplerdError):
    """The server cannot take the request now; `retry_after_s` says when it should be able to."""

    is_retryable = True


class DeadlineError(SamplerdError):
    """The call's timeout is over."""


class UnavailableError(SamplerdError):
    """The server cannot be reached, is not ready, or is draining; another one may answer."""

    is_retryable = True


class ConnectionLostError(SamplerdError):
    """The stream broke, or the client was closed, before the reply came. The request may or may not have been drawn."""


class UnauthenticatedError(SamplerdError):
    """The credentials are missing or wrong."""


class PermissionDeniedError(SamplerdError):
    """The credentials do not allow this."""


class InternalError(SamplerdError):
    """A bug in the server, or a reply that contradicts itself or its request."""
