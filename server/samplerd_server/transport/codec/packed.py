"""Writes the lists of numbers of a message, without making Python objects of the numbers.

The encoding of a message is that of its fields, one after the other in any order. So protobuf writes the few scalar
fields, and lists are appended in pieces; numbers whose encoding is what lies in memory are not copied before the pieces
are joined. Rule 1: an empty list is no field. Source: the encoding guide of Protocol Buffers.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from samplerd_server.transport.codec.compiled import compiled_varints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Pieces", "little_endian", "nested", "packed_floats", "packed_ints"]

Pieces: TypeAlias = "list[bytes | memoryview]"
"""The encoding of some fields, to be joined."""
_LENGTH = 2
_GROUPS = 10
"""The most groups of seven bits that 64 bits have."""


def little_endian(number: int, values: NDArray[np.int32] | NDArray[np.float32] | NDArray[np.float64]) -> Pieces:
    """Write numbers as field `number`, little-endian: a packed field of floats, or a field of bytes."""
    return _field(number, values if sys.byteorder == "little" else values.byteswap())


def packed_floats(number: int, values: NDArray[np.float32] | NDArray[np.float64]) -> Pieces:
    """Write float32[n] as field `number`, ``repeated float``, or float64[n] as ``repeated double``."""
    return little_endian(number, values)


def packed_ints(number: int, values: NDArray[np.int32]) -> Pieces:
    """Write int32[n] as field `number`, ``repeated int32`` (or ``uint32``, if none is negative)."""
    write = compiled_varints() or _varints
    return _field(number, write(values)) if len(values) else []


def nested(number: int, pieces: Sequence[bytes | memoryview]) -> Pieces:
    """Write a message, given as its own pieces, as field `number`."""
    return [_prefix(number, sum(map(len, pieces))), *pieces]


def _field(number: int, values: NDArray[np.generic]) -> Pieces:
    if not len(values):
        return []
    content = np.ascontiguousarray(values).data.cast("B")
    return [_prefix(number, len(content)), content]


def _prefix(number: int, length: int) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varints(values: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Write varints where nothing can be compiled, in ten times the time: all groups of each number, less the empty."""
    left = values.astype(np.int64).astype(np.uint64)[:, None] >> np.arange(0, 7 * _GROUPS, 7, dtype=np.uint64)
    is_last = left < 0x80
    groups = (left & 0x7F).astype(np.uint8) | np.where(is_last, np.uint8(0), np.uint8(0x80))
    is_used = np.ones(left.shape, bool)
    is_used[:, 1:] = ~is_last[:, :-1]
    return groups[is_used]
