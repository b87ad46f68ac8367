"""How a stream reads and writes the messages of its RPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.core.errors import SamplerdError

__all__ = ["Encoded", "Messages", "Request", "Result", "encoded_now"]


class _Identified(Protocol):
    """A request with an id."""

    @property
    def id(self) -> int: ...


class Encoded(NamedTuple):
    """A reply, and the memory that it takes until it is written. It holds neither its request nor those of others."""

    messages: Iterable[bytes]
    """One after the other; each may be encoded only when it is asked for."""
    held_bytes: int
    """Bytes that it holds until its last message is written."""
    writing_bytes: int
    """Most bytes beside those while one of its messages is written: the transport's copy of it, and the message itself
    if it is encoded only then."""


def encoded_now(*messages: bytes) -> Encoded:
    """Give a reply whose messages are all encoded."""
    sizes = tuple(map(len, messages))
    return Encoded(messages, sum(sizes), max(sizes, default=0))


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

    def encode(self, request: Request, result: _Result_contra) -> Encoded:
        """Encode a result as one or more messages, now or when they are written."""
        ...

    def encode_error(self, request_id: int, error: SamplerdError, call_id: str) -> bytes:
        """Encode the failure of one request of the call with this request id."""
        ...
