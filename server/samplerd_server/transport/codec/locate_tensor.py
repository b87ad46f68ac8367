"""Finds the tensor of a large upload, or of guidance rows, without copying it; `scan` does so for a SampleRequest.

Rule 1: it never refuses a message. It knows one layout, which encoders write: the tensor is the last field of the
message, and the data the last field of the tensor. For any other it gives up, and upb parses the whole message.
Source: the encoding guide of Protocol Buffers.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LocatedTensor", "locate_tensor"]

_TENSOR, _DATA = 100, 4
_MAX_TAGS = 64
_VARINT, _LENGTH = 0, 2


class LocatedTensor(NamedTuple):
    """A message split at its tensor."""

    rest: bytes
    """The message without its tensor."""
    shape: bytes
    """The tensor without its data: an encoded Tensor."""
    data: memoryview
    """The tensor's data, in place."""


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


def _last_field(message: bytes | memoryview, at: int, wanted: int, unwanted: range) -> tuple[int, int]:
    """Find where the field `wanted`, which must end the message, begins, and where its content begins."""
    for _ in range(_MAX_TAGS):
        start = at
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in {_VARINT, _LENGTH} or number == 0 or number in unwanted:
            raise _GiveUpError
        value, at = _varint(message, at)
        if wire_type == _LENGTH:
            if number == wanted:
                if at + value != len(message):
                    raise _GiveUpError
                return start, at
            at += value
        elif number == wanted:
            raise _GiveUpError
    raise _GiveUpError


def _varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read a varint of at most five bytes; returns its value and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _GiveUpError
