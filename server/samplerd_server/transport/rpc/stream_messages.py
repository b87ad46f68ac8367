"""How a stream reads and writes the messages of its RPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.core.errors import SamplerdError

__all__ = ["Messages", "Request", "Result"]


class _Identified(Protocol):
    """A request with an id."""

    @property
    def id(self) -> int: ...


Request = TypeVar("Request", bound=_Identified)
Result = TypeVar("Result")
_Result_contra = TypeVar("_Result_contra", contravariant=True)


class Messages(Protocol[Request, _Result_contra]):
    """How the messages of one streaming RPC are read and written."""

    def decode(self, data: bytes) -> Request:
        """Parse and check one request."""
        ...

    def identify(self, data: bytes) -> int:
        """Read the id of a request that could not be decoded; 0 if not even that can be read."""
        ...

    def encode(self, request: Request, result: _Result_contra) -> Iterable[bytes]:
        """Encode a result as one or more messages."""
        ...

    def encode_error(self, request_id: int, error: SamplerdError, call_id: str) -> bytes:
        """Encode the failure of one request of the call with this request id."""
        ...

    def size_bytes(self, result: _Result_contra) -> int:
        """Count the bytes of a result in memory, as far as it may be large."""
        ...
