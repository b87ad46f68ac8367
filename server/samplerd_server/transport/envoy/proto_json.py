"""Messages in JSON, as protobuf defines it (ProtoJSON), and in binary: the two codecs of the Connect protocol.

Rule 1: what is long is converted in a thread, so that other calls go on meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.protobuf import message_factory
from google.protobuf.json_format import MessageToJson, Parse, ParseError

from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.transport.rpc import contract
from samplerd_server.transport.rpc.reflection import SERVICE_NAMES

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, MethodDescriptor

__all__ = ["find_method", "from_json", "to_json"]

_INLINE_BYTES = 16 << 10
"""Bytes of a message, or of its JSON, that take the event loop 2 ms to convert; longer ones are left to a thread."""


def find_method(path: str) -> MethodDescriptor | None:
    """Find the method of ``/package.Service/Method``; None = there is none."""
    service, _, name = path.removeprefix("/").partition("/")
    if service in SERVICE_NAMES:
        service = SERVICE_NAMES[-1]  # the same messages under two names, and only this one is in a contract
    return contract.find_method(service, name)


async def from_json(text: bytes, kind: Descriptor) -> bytes:
    """Convert a message from JSON to binary.

    Raises:
        InvalidRequestError: it is not JSON of such a message, or names a field that there is not.

    """
    if len(text) <= _INLINE_BYTES:
        return _from_json(text, kind)
    return await asyncio.to_thread(_from_json, text, kind)


async def to_json(data: bytes, kind: Descriptor) -> bytes:
    """Convert a message from binary to JSON."""
    if len(data) <= _INLINE_BYTES:
        return _to_json(data, kind)
    return await asyncio.to_thread(_to_json, data, kind)


def _from_json(text: bytes, kind: Descriptor) -> bytes:
    message = message_factory.GetMessageClass(kind)()
    try:
        return Parse(text.decode(), message).SerializeToString()
    except (ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("request", f"the JSON is no {kind.name}: {error}") from error


def _to_json(data: bytes, kind: Descriptor) -> bytes:
    message = message_factory.GetMessageClass(kind).FromString(data)
    return MessageToJson(message, indent=None).encode()
