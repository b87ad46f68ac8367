"""The arrow from a CreateDistributionRequest to what is to be kept, and the other messages about distributions."""

from __future__ import annotations

import base64
import binascii
import math
import secrets
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.entity import entity
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.segment import Description
from samplerd_server.transport.codec.by_distribution import check_name
from samplerd_server.transport.codec.decode_rows import check_tensor
from samplerd_server.transport.codec.locate import locate

if TYPE_CHECKING:
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.distributions.segment import Segment
    from samplerd_server.transport.codec.decode import Decoder

__all__ = ["NewDistribution", "decode_new", "decode_page", "encode_distribution", "encode_page_token"]

_MAX_TTL_S = 315_576_000
"""Ten years, so that the time of expiry is a date that every client can write."""
_MAX_PAGE, _USUAL_PAGE = 1000, 100
_WORTH_A_SCAN = 16 << 10
"""As in decode.py."""
_OTHER_SOURCES = range(5, 7)
_KINDS = {InputKind.LOGITS: pb.INPUT_KIND_LOGITS, InputKind.PROBABILITIES: pb.INPUT_KIND_PROBABILITIES}


@entity
class NewDistribution:
    """What is to be kept."""

    description: Description
    request: SampleRequest
    """One sample from each row: whether it can be drawn from."""
    field: str
    """Where the numbers stand in the request."""


def decode_new(data: bytes, decoder: Decoder, *, now: float, default_ttl_s: float) -> NewDistribution:
    """Check a CreateDistributionRequest.

    Args:
        data: its bytes.
        decoder: checks rows and parameters, with the limits of requests.
        now: seconds since 1970.
        default_ttl_s: of one that brings none; inf = never.

    Raises:
        InvalidRequestError: a field is malformed or out of range.
        NotImplementedFieldError: a field is used that does not work here.

    """
    located = locate(data, _OTHER_SOURCES) if len(data) >= _WORTH_A_SCAN else None
    try:
        message = pb.CreateDistributionRequest.FromString(data if located is None else located.rest)
        shape = pb.Tensor.FromString(b"" if located is None else located.shape)
    except DecodeError as error:
        raise InvalidRequestError("request", "not a CreateDistributionRequest") from error
    name = check_name(message.name, "name") if message.name else f"d-{secrets.token_hex(8)}"
    ttl_s = _decode_ttl(message, default_ttl_s)
    probe = pb.SampleRequest(kind=message.kind, seed=0)
    if message.HasField("params"):
        probe.params.CopyFrom(message.params)
    source = "tensor" if located is not None else message.WhichOneof("source")
    if source is None:
        raise InvalidRequestError("source", "no rows were sent; one of tensor, values, shared_memory is needed")
    if located is None:
        getattr(probe, source).CopyFrom(getattr(message, source))
        request = decoder.decode(probe)
    else:
        rows = check_tensor(shape.dtype, shape.rows or 1, shape.vocab_size, located.data, decoder.limits)
        request = decoder.decode_with(probe, rows)
    kept = request.source
    assert isinstance(kept, DenseRows), "sparse rows are uploaded. This is a bug."
    return NewDistribution(
        description=Description(
            name=name,
            kind=request.kind,
            dtype=Dtype.F32 if kept.dtype is Dtype.F64 else kept.dtype,
            rows=kept.rows,
            vocab_size=kept.vocab_size,
            params=message.params.SerializeToString() if message.HasField("params") else None,
            ttl_s=ttl_s,
            created=now,
        ),
        request=request,
        field={"tensor": "tensor.data", "values": "values", "shared_memory": "shared_memory"}[source],
    )


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
    """Check what page is asked for: how many at most, and the name after which it begins.

    Raises:
        InvalidRequestError: the page is too large, or the token is none of ours.

    """
    if message.page_size > _MAX_PAGE:
        raise InvalidRequestError("page_size", f"{message.page_size} is more than {_MAX_PAGE}")
    try:
        after = base64.b64decode(message.page_token.encode(), altchars=b"-_", validate=True).decode()
        return message.page_size or _USUAL_PAGE, check_name(after, "page_token") if after else ""
    except (binascii.Error, UnicodeError, InvalidRequestError) as error:
        raise InvalidRequestError("page_token", "is not the next_page_token of an earlier reply") from error


def encode_page_token(last: str) -> str:
    """Make the token of the page after the name `last`; it stays good whatever is created or deleted meanwhile."""
    return base64.b64encode(last.encode(), altchars=b"-_").decode()
