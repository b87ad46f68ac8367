"""The arrow from a `Guidance` message to its rows, checked against the rows that they guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.buffers import address_of
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec.decode_rows import check_tensor, decode_tensor, decode_values
from samplerd_server.transport.codec.locate_tensor import locate_tensor
from samplerd_server.transport.codec.parse import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.rows import CandidateRows, StoredRows

__all__ = ["GuidanceRows", "check_guidance", "decode_guidance", "decode_guidance_bytes", "load_both"]

_OTHER_SOURCES = range(12, 18)
"""Numbers of the fields that are sources beside the tensor."""
_SOURCES = "tensor", "values", "shared_memory", "cuda_shared_memory"
_DecodeShared: TypeAlias = (
    "Callable[[pb.SharedMemory | pb.CudaSharedMemory, str], tuple[DenseRows, Callable[[], None]]]"
)


@dataclass(frozen=True, slots=True)
class GuidanceRows:
    """The guidance rows of a request."""

    rows: DenseRows
    load: Callable[[], None] | None
    """Copies their numbers out of shared memory once the request is admitted; None = they are in memory already."""
    field: str = "shared_memory"
    """The field of `Guidance` that names them, where they are in shared memory."""


def decode_guidance(
    message: pb.Guidance,
    limits: LimitsConfig,
    decode_shared: _DecodeShared,
) -> GuidanceRows:
    """Find the rows of a message; `decode_shared` takes those that are in shared memory, and the path of their field.

    Raises:
        InvalidRequestError: no source, or a malformed one.
        NotImplementedFieldError: shared memory is off.
        PermissionDeniedError: shared memory that requests may not name.

    """
    source = message.WhichOneof("source")
    if source == "tensor":
        return GuidanceRows(decode_tensor(message.tensor, limits, "guidance.tensor"), None)
    if source == "shared_memory":
        return GuidanceRows(*decode_shared(message.shared_memory, "guidance.shared_memory"))
    if source == "cuda_shared_memory":
        return GuidanceRows(*decode_shared(message.cuda_shared_memory, f"guidance.{source}"), source)
    if source is None:
        raise InvalidRequestError("guidance", f"no rows were sent; one of {', '.join(_SOURCES)} is needed")
    return GuidanceRows(decode_values(message.values, limits, "guidance.values"), None)


def decode_guidance_bytes(
    data: bytes,
    begin: int,
    end: int,
    limits: LimitsConfig,
    decode_shared: _DecodeShared,
) -> GuidanceRows:
    """Find the rows of an encoded message at bytes [begin, end) of a request; those of a tensor stay where they are.

    Raises what `decode_guidance` raises.
    """
    content = memoryview(data)[begin:end]
    located = locate_tensor(content, _OTHER_SOURCES)
    if located is None:
        message = parse(pb.Guidance, bytes(content), part_of=pb.SampleRequest)
        return decode_guidance(message, limits, decode_shared)
    parse(pb.Guidance, located.rest, part_of=pb.SampleRequest)
    tensor = parse(pb.Tensor, located.shape, part_of=pb.SampleRequest)
    address = address_of(data) + end - len(located.data)
    rows, path = tensor.rows or 1, "guidance.tensor"
    return GuidanceRows(
        check_tensor(tensor.dtype, rows, tensor.vocab_size, located.data, limits, path, address=address), None
    )


def check_guidance(
    guidance: DenseRows, source: DenseRows | CandidateRows | StoredRows, params: tuple[SamplingParams, ...]
) -> None:
    """Check guidance rows against the rows that they guide, and that some row uses them.

    Raises:
        InvalidRequestError: rows that cannot be guided, other numbers of rows or of categories, no row that uses them.

    """
    if not isinstance(source, DenseRows):
        raise InvalidRequestError("guidance", "not together with candidates or a distribution, which it cannot guide")
    if guidance.rows != source.rows:
        raise InvalidRequestError("guidance", f"{guidance.rows} guidance rows for {source.rows} rows")
    if guidance.vocab_size != source.vocab_size:
        raise InvalidRequestError(
            "guidance", f"its rows have {guidance.vocab_size} numbers, but those of the request {source.vocab_size}"
        )
    if all(own.guidance_scale == 1.0 for own in params):
        raise InvalidRequestError("guidance", "no row uses it: every guidance_scale is 1")


def load_both(
    size_bytes: int, load: Callable[[], None] | None, guidance: GuidanceRows, limit: int
) -> Callable[[], None] | None:
    """Join what copies `size_bytes` of rows and what copies guidance rows out of shared memory.

    Raises:
        InvalidRequestError: both are in shared memory, and together they have more bytes than the limit.

    """
    load_guidance = guidance.load
    if load is None or load_guidance is None:
        return load or load_guidance
    both = size_bytes + guidance.rows.size_bytes
    if both > limit:
        raise InvalidRequestError(
            f"guidance.{guidance.field}.byte_size",
            f"{both} bytes with those of the rows are more than the limit of {limit} for one request",
        )

    def load_all() -> None:
        load()
        load_guidance()

    return load_all
