"""Finds the tensors of uploads, guidance rows and drafts without copying them; `scan` does so for a SampleRequest.

Rule 1: it never refuses a message. Of an upload or guidance rows it knows one layout, which encoders write: the tensor
is the last field of the message, and the data the last field of the tensor. Of a draft it knows any order of fields.
Where it does not know a message it gives up, and upb parses the whole. Rule 2: it looks at tags only.
Source: the encoding guide of Protocol Buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

__all__ = ["EncodedTensor", "LocatedTensor", "locate_tensor", "locate_tensors"]

_TENSOR, _DATA = 100, 4
_MAX_TAGS = 64
_MAX_FIELDS = 4096
"""`locate_tensors` gives up beyond this many fields at the top, such as unpacked ids."""
_VARINT, _LENGTH = 0, 2
_MAX_TAG_BYTES, _MAX_BYTES = 5, 10
"""The most bytes of a tag or a length, and of a number: upb refuses longer ones, though they may mean the same."""


class LocatedTensor(NamedTuple):
    """A message split at its tensor."""

    rest: bytes
    """The message without its tensor."""
    shape: bytes
    """The tensor without its data: an encoded Tensor."""
    data: memoryview
    """The tensor's data, in place."""


class EncodedTensor(NamedTuple):
    """One tensor of a message."""

    shape: bytes
    """The tensor without its data: an encoded Tensor."""
    data_at: int
    """Where its data begins, in bytes from the begin of the message."""
    data_end: int


class _Field(NamedTuple):
    number: int
    has_length: bool
    tag_at: int
    begin: int
    """Where the content of a field with a length begins; its end for a number."""
    end: int


class _GiveUpError(Exception):
    pass


def locate_tensor(message: bytes | memoryview, other_sources: range) -> LocatedTensor | None:
    """Split a message at its tensor; None if it has another layout, or a field whose number is in `other_sources`."""
    try:
        tensor, begin = _last_field(message, 0, _TENSOR, other_sources)
        data, numbers = _last_field(message, begin, _DATA, range(0))
    except (_GiveUpError, IndexError):
        return None
    rest, shape = bytes(message[:tensor]), bytes(message[begin:data])
    return LocatedTensor(rest=rest, shape=shape, data=memoryview(message)[numbers:])


def locate_tensors(message: bytes, wanted: Container[int]) -> tuple[bytes, dict[int, EncodedTensor]] | None:
    """Cut the tensors whose field numbers are `wanted` out of a message.

    Returns:
        The message without them, and each by its number; None if one comes twice, or without data, or the message has
        an encoding that is not known here.

    """
    rest, kept, found = [], 0, dict[int, EncodedTensor]()
    try:
        for field in _fields(message, 0, len(message)):
            if field.number in wanted:
                if field.number in found or not field.has_length:
                    return None
                found[field.number] = _encoded_tensor(message, field)
                rest.append(message[kept : field.tag_at])
                kept = field.end
    except (_GiveUpError, IndexError):
        return None
    return b"".join((*rest, message[kept:])), found


def _encoded_tensor(message: bytes, tensor: _Field) -> EncodedTensor:
    data = [field for field in _fields(message, tensor.begin, tensor.end) if field.number == _DATA]
    if len(data) != 1 or not data[0].has_length:
        raise _GiveUpError
    (own,) = data
    shape = message[tensor.begin : own.tag_at] + message[own.end : tensor.end]
    return EncodedTensor(shape=shape, data_at=own.begin, data_end=own.end)


def _fields(message: bytes, at: int, end: int) -> Iterator[_Field]:
    """Go through the fields at bytes [at, end) of a message."""
    for _ in range(_MAX_FIELDS):
        if at == end:
            return
        start = at
        tag, at = _varint(message, at, _MAX_TAG_BYTES)
        number, wire_type = tag >> 3, tag & 7
        value, at = _varint(message, at, _MAX_TAG_BYTES if wire_type == _LENGTH else _MAX_BYTES)
        stop = at + value if wire_type == _LENGTH else at
        if wire_type not in {_VARINT, _LENGTH} or number == 0 or stop > end:
            raise _GiveUpError
        yield _Field(number, wire_type == _LENGTH, start, at, stop)
        at = stop
    raise _GiveUpError


def _last_field(message: bytes | memoryview, at: int, wanted: int, unwanted: range) -> tuple[int, int]:
    """Find where the field `wanted`, which must end the message, begins, and where its content begins."""
    for _ in range(_MAX_TAGS):
        start = at
        tag, at = _varint(message, at, _MAX_TAG_BYTES)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in {_VARINT, _LENGTH} or number == 0 or number in unwanted:
            raise _GiveUpError
        value, at = _varint(message, at, _MAX_TAG_BYTES if wire_type == _LENGTH else _MAX_BYTES)
        if wire_type == _LENGTH:
            if number == wanted:
                if at + value != len(message):
                    raise _GiveUpError
                return start, at
            at += value
        elif number == wanted:
            raise _GiveUpError
    raise _GiveUpError


def _varint(message: bytes | memoryview, at: int, most: int) -> tuple[int, int]:
    """Read a varint of at most so many bytes; returns its value and where it ends."""
    value = 0
    for shift in range(0, 7 * most, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _GiveUpError
