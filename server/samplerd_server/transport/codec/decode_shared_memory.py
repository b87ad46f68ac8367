"""The arrow from a `SharedMemory` message to rows: everything is checked first, and copied when the caller says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec.decode_rows import check_shape, decode_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_server.config import LimitsConfig
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["decode_shared_memory"]


def decode_shared_memory(
    memory: pb.SharedMemory, limits: LimitsConfig, regions: SharedMemoryReader, path: str = "shared_memory"
) -> tuple[DenseRows, Callable[[], None]]:
    """Check where rows lie; returns them with empty memory, and the function that copies their numbers there.

    The copy takes time and touches the memory for the first time, so call it once the request is admitted. It raises
    the errors of `SharedMemoryReader.read`.

    Raises:
        InvalidRequestError: a malformed key, an unknown dtype, a shape beyond the limits, a wrong number of bytes.
        PermissionDeniedError: requests may not name this key.

    """
    name = regions.resolve(memory.key, path)
    dtype = decode_dtype(memory.dtype, f"{path}.dtype")
    rows, vocab_size = memory.rows or 1, memory.vocab_size
    check_shape(rows, f"{path}.rows", vocab_size, f"{path}.vocab_size", limits)
    needed = rows * vocab_size * dtype.itemsize
    if memory.byte_size != needed:
        raise InvalidRequestError(
            f"{path}.byte_size",
            f"{memory.byte_size}, but {rows} rows x {vocab_size} numbers x {dtype.itemsize} bytes are {needed}",
        )
    if needed > regions.max_bytes:
        raise InvalidRequestError(
            f"{path}.byte_size", f"{needed} bytes are more than the limit of {regions.max_bytes} for one request"
        )
    offset, data = memory.offset, regions.allocate(needed)
    return (
        DenseRows(dtype=dtype, rows=rows, vocab_size=vocab_size, data=data),
        lambda: regions.read(name, offset, data, path),
    )
