"""Finding the tensor of a SampleRequest without copying it.

upb copies a bytes field twice: into its arena, and out of it at each access. For a row of 512 KiB that is most of what
the server does beside drawing. So a large message is scanned by hand, top-level tags only: the bytes of the tensor stay
where they are, and everything else is parsed by upb as ever.

Rule 1: whatever surprises this scan (a second tensor, another source, a group, a bad length) makes it give up, and upb
decides alone; it never judges. Rule 2: it looks at a handful of tags, so its time does not grow with the message.
Source: the encoding guide of Protocol Buffers.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Located", "locate"]

_TENSOR = 100
_OTHER_SOURCES = range(12, 16)
_DATA = 4
_MAX_TAGS = 4096
"""More fields than this at the top (unpacked row_seeds, say) are not worth scanning."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Located(NamedTuple):
    """A message taken apart."""

    rest: bytes
    """The message without its tensor."""
    shape: bytes
    """The tensor without its data: an encoded Tensor."""
    data: memoryview
    """The tensor's data, in place."""


class _GiveUpError(Exception):
    pass


def locate(message: bytes) -> Located | None:
    """Take a message apart, or give None: upb must read it whole."""
    view = memoryview(message)
    try:
        tensor = _only_field(message, 0, len(message), _TENSOR, _OTHER_SOURCES)
        data = _only_field(message, tensor[1], tensor[2], _DATA, range(0))
    except (_GiveUpError, IndexError):
        return None
    return Located(
        rest=message[: tensor[0]] + message[tensor[2] :],
        shape=message[tensor[1] : data[0]] + message[data[2] : tensor[2]],
        data=view[data[1] : data[2]],
    )


def _only_field(  # noqa: PLR0912  # one branch a wire type
    message: bytes, begin: int, end: int, wanted: int, unwanted: range
) -> tuple[int, int, int]:
    """Find where the one field `wanted` between `begin` and `end` begins, and where its content begins and ends."""
    found: tuple[int, int, int] | None = None
    at = begin
    for _ in range(_MAX_TAGS):
        if at == end:
            if found is None:
                raise _GiveUpError
            return found
        start = at
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or number in unwanted:
            raise _GiveUpError
        if wire_type == _LENGTH:
            length, at = _varint(message, at)
            content, at = at, at + length
            if number == wanted:
                if found is not None:
                    raise _GiveUpError
                found = (start, content, at)
        elif number == wanted:
            raise _GiveUpError
        elif wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _FIXED64:
            at += 8
        elif wire_type == _FIXED32:
            at += 4
        else:
            raise _GiveUpError
        if at > end:
            raise _GiveUpError
    raise _GiveUpError


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a varint of at most ten bytes; returns its value and where it ends."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    for following in range(at + 1, at + 10):
        byte = message[following]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise _GiveUpError
            return value, following + 1
        shift += 7
    raise _GiveUpError
