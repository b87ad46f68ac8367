"""Encodes by hand the few fields that protobuf would encode too slowly, and reads its repeated fields.

Rule 1: the rows are copied exactly once, into the message's bytes. protobuf would copy them three times, so the tensor,
which has the highest field number, is appended to the encoded rest. Source: the encoding guide of Protocol Buffers.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_client.arrays import Rows

__all__ = ["length_delimited", "repeated", "tensor_header", "tensor_parts", "with_guidance", "with_tensor"]

_LEAST_FOR_ARRAY = 64
"""Numbers from which on protobuf's own array is faster than numpy's loop: 2.3 us in all against 0.035 us for each."""


def repeated(values: Sequence[Any], dtype: Any) -> NDArray[Any]:
    """Return the numbers of a repeated field as an array of the caller's own: writable, native, of this dtype.

    protobuf from 7.35 on gives numpy an array of them; older ones are read number by number.
    """
    if len(values) >= _LEAST_FOR_ARRAY and hasattr(values, "__array__"):
        return np.array(values, dtype=dtype)
    return np.fromiter(values, dtype=dtype, count=len(values))


def with_tensor(head: bytes, rows: Rows | None, field: int = pb.SampleRequest.TENSOR_FIELD_NUMBER) -> bytes:
    """Return an encoded message with its tensor appended."""
    return head if rows is None else b"".join((head, *tensor_parts(rows, field)))


def with_guidance(head: bytes, guidance: Rows, rows: Rows | None) -> bytes:
    """Return an encoded request with its guidance rows appended, and then its tensor."""
    parts = tensor_parts(guidance, pb.Guidance.TENSOR_FIELD_NUMBER)
    begin = length_delimited(pb.SampleRequest.GUIDANCE_FIELD_NUMBER, sum(map(len, parts)))
    last = () if rows is None else tensor_parts(rows, pb.SampleRequest.TENSOR_FIELD_NUMBER)
    return b"".join((head, begin, *parts, *last))


def tensor_parts(rows: Rows, field: int) -> tuple[bytes, memoryview]:
    """Return what follows one another in an encoded message where its field of this number is a tensor."""
    return tensor_header(field, rows.dtype, rows.rows, rows.vocab_size, len(rows.data)), rows.data


@functools.lru_cache(maxsize=256)
def tensor_header(field: int, dtype: pb.Dtype.ValueType, rows: int, vocab_size: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a tensor's numbers."""
    shape = pb.Tensor(dtype=dtype, rows=rows, vocab_size=vocab_size).SerializeToString()
    data = length_delimited(pb.Tensor.DATA_FIELD_NUMBER, size)
    return length_delimited(field, len(shape) + len(data) + size) + shape + data


def length_delimited(field: int, size: int) -> bytes:
    """Return the tag of a length-delimited field and its length."""
    encoded = bytearray()
    for number in ((field << 3) | 2, size):
        value = number
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)
