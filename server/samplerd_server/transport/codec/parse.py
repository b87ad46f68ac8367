"""The arrow ``bytes -> message``: bytes that are no such message are the client's error."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError

from samplerd_server.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["parse"]

_Message = TypeVar("_Message", bound="Message")


def parse(kind: type[_Message], data: bytes, *, part_of: type[Message] | None = None) -> _Message:
    """Parse a request, or a part of one that stands alone; `part_of` is the request that the error then names.

    Raises:
        InvalidRequestError: the bytes are not such a message.

    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError("request", f"not a {(part_of or kind).__name__}") from error
