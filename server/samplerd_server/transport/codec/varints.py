"""Writes whole numbers as varints, which a packed field of protobuf is made of.

protobuf takes such a field as Python objects, one by one: 4,194,304 ids hold the event loop for 220 ms. This takes some
10 ms, without the interpreter lock. Source: the encoding guide of Protocol Buffers.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.buffers import address_of
from samplerd_server.sampling.kernels.compile import carray, kernel, load_i32, uint8_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["varints"]

_U64 = np.uint64
_SHORT, _LONG = 5, 10
"""The most bytes of a number that is not negative, and the bytes of a negative one: as 64 bits."""


@kernel
def _write(numbers, count, address, room):
    """Write `count` int32 that begin at one address to another with `room` bytes; returns how many it took."""
    out = carray(uint8_at(_U64(address)), room)
    at = 0
    for i in range(count):
        left = _U64(np.int64(load_i32(_U64(numbers), i)))
        while left > _U64(0x7F):
            out[at] = np.uint8(left & _U64(0x7F)) | np.uint8(0x80)
            left >>= _U64(7)
            at += 1
        out[at] = np.uint8(left)
        at += 1
    return at


def varints(values: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Write the varints of int32[n], one after the other; returns uint8."""
    values = np.ascontiguousarray(values)
    out = np.empty(_SHORT * len(values) + (_LONG - _SHORT) * int(np.count_nonzero(values < 0)), np.uint8)
    return out[: _write(address_of(values), len(values), address_of(out), len(out))]
