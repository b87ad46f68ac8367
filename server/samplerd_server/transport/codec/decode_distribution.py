"""The arrow ``bytes -> NewDistribution`` of an upload, and the other messages about distributions."""

from __future__ import annotations

import base64
import binascii
import math
import secrets
from typing import TYPE_CHECKING

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.entity import entity
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.segment import Description
from samplerd_server.transport.codec.by_distribution import check_name
from samplerd_server.transport.codec.check_request import Scalars, check_request, decode_shared_params
from samplerd_server.transport.codec.decode_rows import check_tensor
from samplerd_server.transport.codec.locate_tensor import locate_tensor
from samplerd_server.transport.codec.parse import parse

if TYPE_CHECKING:
    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.entity import Buffer
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.distributions.segment import Segment
    from samplerd_server.transport.codec.decode import Decoder

__all__ = ["NewDistribution", "decode_new", "decode_page", "encode_distribution", "encode_page_token"]

_MAX_TTL_S = 315_576_000
"""Ten years, so that the time of expiry is a date that every client can write."""
_MAX_PAGE, _USUAL_PAGE = 1000, 100
_WORTH_LOCATING = 16 << 10
"""Bytes of a message from which on finding its tensor takes less time than copying it."""
_OTHER_SOURCES = range(5, 8)
"""Numbers of the fields that are sources beside the tensor."""
_FIELDS = {
    "tensor": "tensor.data",
    "values": "values",
    "shared_memory": "shared_memory",
    "cuda_shared_memory": "cuda_shared_memory",
}
"""The field that holds the numbers of each source."""
_KINDS = {InputKind.LOGITS: pb.INPUT_KIND_LOGITS, InputKind.PROBABILITIES: pb.INPUT_KIND_PROBABILITIES}


@entity
class NewDistribution:
    """An upload, checked."""

    description: Description
    request: SampleRequest
    """One sample from each row, to find rows that cannot be drawn from."""
    field: str
    """The field that holds the numbers, for errors."""


def decode_new(data: bytes, decoder: Decoder, *, now: float, default_ttl_s: float) -> NewDistribution:
    """Check a CreateDistributionRequest.

    Args:
        data: its bytes.
        decoder: checks rows and parameters, with the limits of requests.
        now: seconds since 1970.
        default_ttl_s: seconds without use after which it is freed, if the upload does not say; inf = never.

    Raises:
        InvalidRequestError: a field is malformed or out of range.
        NotImplementedFieldError: a field is used that does not work here.

    """
    message, tensor, numbers = _parse(data)
    name = check_name(message.name, "name") if message.name else f"d-{secrets.token_hex(8)}"
    ttl_s = _decode_ttl(message, default_ttl_s)
    source = "tensor" if tensor is not None else message.WhichOneof("source")
    if source is None:
        raise InvalidRequestError("source", f"no rows were sent; one of {', '.join(_FIELDS)} is needed")
    rows, load = decoder.decode_source(message) if tensor is None else (_check(tensor, numbers, decoder.limits), None)
    assert isinstance(rows, DenseRows), "an upload of candidates. This is a bug."
    request = check_request(
        Scalars(kind=message.kind),
        rows,
        decoder.limits,
        params=decode_shared_params(message, decoder.context(rows.vocab_size, takes_guidance=False)),
        seed=0,
        load=load,
    )
    return NewDistribution(
        description=Description(
            name=name,
            kind=request.kind,
            dtype=Dtype.F32 if rows.dtype is Dtype.F64 else rows.dtype,
            rows=rows.rows,
            vocab_size=rows.vocab_size,
            params=message.params.SerializeToString() if message.HasField("params") else None,
            ttl_s=ttl_s,
            created=now,
        ),
        request=request,
        field=_FIELDS[source],
    )


def _parse(data: bytes) -> tuple[pb.CreateDistributionRequest, pb.Tensor | None, Buffer]:
    """Parse an upload; the tensor of a large one is given apart, without its numbers, and these in place."""
    located = locate_tensor(data, _OTHER_SOURCES) if len(data) >= _WORTH_LOCATING else None
    if located is None:
        return parse(pb.CreateDistributionRequest, data), None, b""
    message = parse(pb.CreateDistributionRequest, located.rest)
    return message, parse(pb.Tensor, located.shape, part_of=pb.CreateDistributionRequest), located.data


def _check(tensor: pb.Tensor, numbers: Buffer, limits: LimitsConfig) -> DenseRows:
    return check_tensor(tensor.dtype, tensor.rows or 1, tensor.vocab_size, numbers, limits)


def _decode_ttl(message: pb.CreateDistributionRequest, default_s: float) -> float:
    if not message.HasField("ttl"):
        return default_s
    seconds = message.ttl.seconds + message.ttl.nanos * 1e-9
    if not (0 < seconds <= _MAX_TTL_S and 0 <= message.ttl.nanos < 10**9):
        raise InvalidRequestError("ttl", f"must be more than 0 and at most {_MAX_TTL_S} s")
    return seconds


def encode_distribution(segment: Segment, expires: float) -> pb.Distribution:
    """Describe a distribution; `expires` in seconds since 1970, inf = never."""
    own = segment.description
    message = pb.Distribution(
        name=own.name,
        rows=own.rows,
        vocab_size=own.vocab_size,
        kind=_KINDS[own.kind],
        memory_bytes=segment.size_bytes,
    )
    message.create_time.FromMicroseconds(round(own.created * 1e6))
    if not math.isinf(expires):
        message.expire_time.FromMicroseconds(round(expires * 1e6))
    if own.params is not None:
        message.params.ParseFromString(own.params)
    return message


def decode_page(message: pb.ListDistributionsRequest) -> tuple[int, str]:
    """Check which page is asked for; returns its largest size, and the name after which it begins.

    Raises:
        InvalidRequestError: the page is too large, or this server gave no such token.

    """
    if message.page_size > _MAX_PAGE:
        raise InvalidRequestError("page_size", f"{message.page_size} is more than {_MAX_PAGE}")
    try:
        after = base64.b64decode(message.page_token.encode(), altchars=b"-_", validate=True).decode()
        return message.page_size or _USUAL_PAGE, check_name(after, "page_token") if after else ""
    except (binascii.Error, UnicodeError, InvalidRequestError) as error:
        raise InvalidRequestError("page_token", "is not the next_page_token of an earlier reply") from error


def encode_page_token(last: str) -> str:
    """Make the token of the page after the name `last`. It stays valid whatever is created or deleted meanwhile."""
    return base64.b64encode(last.encode(), altchars=b"-_").decode()
