"""The arrow from a `SharedMemory` or `CudaSharedMemory` message to rows.

Everything is checked first, and copied when the caller says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.core.buffers import address_of
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec.decode_rows import check_shape, decode_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.enums import Dtype
    from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["decode_cuda_memory", "decode_shared_memory"]


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
    dtype, rows, needed = _check_size(memory, limits, regions.max_bytes, path)
    offset, data = memory.offset, regions.allocate(needed)
    return (
        DenseRows(dtype=dtype, rows=rows, vocab_size=memory.vocab_size, data=data),
        lambda: regions.read(name, offset, data, path),
    )


def decode_cuda_memory(
    memory: pb.CudaSharedMemory,
    limits: LimitsConfig,
    regions: CudaRegions,
    path: str = "cuda_shared_memory",
    *,
    is_device: bool = True,
) -> tuple[DenseRows, Callable[[], None]]:
    """Check where rows lie on a card; returns them, and the function that copies their numbers.

    Args:
        memory: names them.
        limits: of the server.
        regions: what is registered.
        path: the field, for error messages.
        is_device: whether the rows stay on the card: only a sampler on it may then read them. If not, they are copied
            to the host.

    Raises:
        NotImplementedFieldError: the server registers no memory of CUDA devices.
        NotFoundError: there is no such region.
        InvalidRequestError: an unknown dtype, a shape beyond the limits, a wrong number of bytes.
        OverloadedError: too many rows wait for the card.

    """
    name, offset = memory.region, memory.offset
    regions.check(name, 0, 0, path)
    dtype, rows, needed = _check_size(memory, limits, regions.max_bytes, path)
    regions.check(name, offset, needed, path)
    data = regions.lease(needed) if is_device else memoryview(bytearray(needed))
    return (
        DenseRows(dtype=dtype, rows=rows, vocab_size=memory.vocab_size, data=data, address=address_of(data)),
        lambda: regions.load(name, offset, data, path, is_device=is_device),
    )


def _check_size(
    memory: pb.SharedMemory | pb.CudaSharedMemory, limits: LimitsConfig, max_bytes: int, path: str
) -> tuple[Dtype, int, int]:
    """Check the shape and the size of rows; returns their dtype, how many there are, and their bytes."""
    dtype = decode_dtype(memory.dtype, f"{path}.dtype")
    rows, vocab_size = memory.rows or 1, memory.vocab_size
    check_shape(rows, f"{path}.rows", vocab_size, f"{path}.vocab_size", limits)
    needed = rows * vocab_size * dtype.itemsize
    if memory.byte_size != needed:
        raise InvalidRequestError(
            f"{path}.byte_size",
            f"{memory.byte_size}, but {rows} rows x {vocab_size} numbers x {dtype.itemsize} bytes are {needed}",
        )
    if needed > max_bytes:
        raise InvalidRequestError(
            f"{path}.byte_size", f"{needed} bytes are more than the limit of {max_bytes} for one request"
        )
    return dtype, rows, needed
