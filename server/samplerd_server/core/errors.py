"""The errors of a request, each fixed to one gRPC code.

::

    SamplerdError                  every error that is answered on purpose
    ├── InvalidRequestError        INVALID_ARGUMENT     no retry   the caller should fix its request
    ├── NotImplementedFieldError   UNIMPLEMENTED        no retry   the server does not support the field or RPC
    ├── NotFoundError              NOT_FOUND            no retry   no such distribution or region
    ├── AlreadyExistsError         ALREADY_EXISTS       no retry   the name of a distribution is taken
    ├── OverloadedError            RESOURCE_EXHAUSTED   retry      queue full, or predicted to be late
    ├── FullError                  RESOURCE_EXHAUSTED   no retry   no room for another distribution
    ├── MessageTooLargeError       RESOURCE_EXHAUSTED   no retry   the message is larger than the limit, once inflated
    ├── DeadlineError              DEADLINE_EXCEEDED    no retry   expired while queued; never computed
    ├── UnavailableError           UNAVAILABLE          retry      draining or not ready
    ├── UnauthenticatedError       UNAUTHENTICATED      no retry   no or wrong credentials
    ├── PermissionDeniedError      PERMISSION_DENIED    no retry   the request may not use what it names
    └── InternalError              INTERNAL             no retry   a bug in samplerd; the cause is in the log only

Rule 1: a message of these classes is safe to send to any client. Rule 2: this module knows no grpc; codes are the
numbers of google.rpc.Code. A row that fails alone is not an exception but a `result.RowError`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

__all__ = [
    "DRAIN_RETRY_S",
    "OK",
    "AlreadyExistsError",
    "BindError",
    "Code",
    "DeadlineError",
    "DeviceError",
    "FullError",
    "InternalError",
    "InvalidRequestError",
    "MessageTooLargeError",
    "NotFoundError",
    "NotImplementedFieldError",
    "OverloadedError",
    "PermissionDeniedError",
    "SamplerdError",
    "UnauthenticatedError",
    "UnavailableError",
    "cut",
]


class Code(IntEnum):
    """The codes of google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


DRAIN_RETRY_S = 0.2
"""After this, a server that drains and has nothing in flight has told its clients to connect elsewhere."""
OK = Code.OK
"""The code of nearly every call: looking up the member of the class takes 80 ns each time."""


_MAX_BYTES = 512
"""Of a text. A status travels in headers, of which clients take 8 KiB, and holds each text up to three times, encoded
up to three times as long. A status that is too large arrives as RESOURCE_EXHAUSTED, which is tried again."""


def cut(text: str) -> str:
    """Cut a text, which may quote what a client sent, after 512 bytes."""
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= _MAX_BYTES else data[:_MAX_BYTES].decode("utf-8", "ignore") + "..."


class BindError(Exception):
    """Expected: the server cannot listen on an address. It does not start, so no caller sees this error."""


class DeviceError(Exception):
    """Expected: the configured device does not exist."""


class SamplerdError(Exception):
    """Base of all errors that are answered on purpose."""

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False
    reason: str = "INTERNAL"
    """UPPER_SNAKE name for programs: google.rpc.ErrorInfo.reason."""

    @property
    def message(self) -> str:
        """The text that the client gets, cut where it is long."""
        return cut(str(self))


class InvalidRequestError(SamplerdError):
    """Expected: the request is malformed, contradictory or out of range."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        """Path of the field in error, as in the proto: ``tensor.data``, ``row_params[2].top_p``."""
        self.description = description
        """What is wrong with it and what is allowed."""


class NotImplementedFieldError(SamplerdError):
    """Expected: the request uses a field or RPC that this server does not support or has turned off."""

    code = Code.UNIMPLEMENTED
    reason = "NOT_IMPLEMENTED"

    def __init__(self, name: str, why: str = "is not implemented by this server") -> None:
        super().__init__(f"{name} {why}")
        self.name = name
        """The field or RPC."""


class NotFoundError(SamplerdError):
    """Expected: what the request names does not exist."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExistsError(SamplerdError):
    """Expected: the name is taken."""

    code = Code.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class OverloadedError(SamplerdError):
    """Expected: the server cannot accept the request now; the client may retry after `retry_after_s`."""

    code = Code.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(self, message: str, *, reason: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s
        """Seconds after which there should be room in the queue."""


class FullError(SamplerdError):
    """Expected: there is no room for another distribution until one is deleted or expires."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "DISTRIBUTIONS_FULL"


class MessageTooLargeError(SamplerdError):
    """Expected: a message, or what a compressed one inflates to, is larger than this server takes."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "MESSAGE_TOO_LARGE"

    def __init__(self, what: str, max_bytes: int) -> None:
        super().__init__(f"{what} is larger than the limit of {max_bytes} bytes (--max-message-bytes)")


class ReplyTooLargeError(SamplerdError):
    """Expected: a reply alone is larger than all replies that may wait to be read."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "REPLY_TOO_LARGE"

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(
            f"the reply takes {size} bytes of memory until it is read, and --reply-bytes lets {max_bytes} wait: "
            "ask for less at once"
        )


class DeadlineError(SamplerdError):
    """Expected: the deadline passed while the request was queued; nothing was computed."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class UnavailableError(SamplerdError):
    """Expected: the server is draining or not ready; another server may answer."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"
    retryable = True

    def __init__(self, message: str, *, reason: str = "UNAVAILABLE", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s
        """Seconds after which a caller should ask again; None = it knows best."""


class UnauthenticatedError(SamplerdError):
    """Expected: no credentials, or wrong ones."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDeniedError(SamplerdError):
    """Expected: the request may not use the region or distribution that it names."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class InternalError(SamplerdError):
    """Unexpected: a bug in samplerd. The cause goes to the log; the client gets a fixed text."""

    code = Code.INTERNAL
    reason = "INTERNAL"

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has the cause")
