"""The lists of numbers of a long reply, appended to its other fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.codec.packed import little_endian, nested, packed_floats, packed_ints

if TYPE_CHECKING:
    from samplerd_server.core.request import ReplyHead, SampleRequest
    from samplerd_server.core.result import LogprobValues, SampleResult
    from samplerd_server.transport.codec.packed import Pieces

__all__ = ["Part", "encode_lists"]

_REPLY, _LOGPROBS, _ENTROPIES = (
    {field.name: field.number for field in message.DESCRIPTOR.fields}
    for message in (pb.SampleResponse, pb.Logprobs, pb.Entropies)
)


class Part(NamedTuple):
    """One message of a reply."""

    chunk: int
    """Its index; per-row outputs and row errors come with 0."""
    begin: int
    """Its samples: [begin, end)."""
    end: int
    is_last: bool


def encode_lists(others: bytes, request: SampleRequest | ReplyHead, result: SampleResult, part: Part) -> bytes:
    """Append the lists of one message of a reply to `others`, the encoding of its other fields."""
    pieces: Pieces = [others]
    own = slice(part.begin, part.end)
    if request.outputs.raw_samples:
        pieces += little_endian(_REPLY["raw_samples"], result.samples[own])
    else:
        pieces += packed_ints(_REPLY["samples"], result.samples[own])
    if result.ranks is not None:
        pieces += packed_ints(_REPLY["ranks"], result.ranks[own])
    for values in result.logprobs:
        pieces += nested(_REPLY["logprobs"], _logprobs(values, request, part))
    if result.adaptive_weighted_sum is not None and result.adaptive_total_weight is not None:
        pieces += packed_floats(_REPLY["adaptive_weighted_sum"], result.adaptive_weighted_sum[own])
        pieces += packed_floats(_REPLY["adaptive_total_weight"], result.adaptive_total_weight[own])
    if part.chunk == 0:
        pieces += _row_outputs(result)
    return b"".join(pieces)


def _logprobs(values: LogprobValues, request: SampleRequest | ReplyHead, part: Part) -> Pieces:
    """Write the fields of a Logprobs."""
    kind = pb.Logprobs(kind=int(values.kind)).SerializeToString()  # type: ignore[arg-type]  # an enum's number
    field = "raw_samples" if request.outputs.raw_samples else "samples"
    pieces: Pieces = [kind, *packed_floats(_LOGPROBS[field], values.samples[part.begin : part.end])]
    if part.chunk == 0:
        if values.top_ids is not None and values.top is not None:
            pieces += packed_ints(_LOGPROBS["top_ids"], values.top_ids)
            pieces += packed_floats(_LOGPROBS["top"], values.top)
        if values.named is not None:
            pieces += packed_floats(_LOGPROBS["named"], values.named)
    return pieces


def _row_outputs(result: SampleResult) -> Pieces:
    """Write the outputs that a row has once, but for those of log-probabilities."""
    pieces: Pieces = []
    for kind, nats in result.entropies:
        head = pb.Entropies(kind=int(kind)).SerializeToString()  # type: ignore[arg-type]  # an enum's number
        pieces += nested(_REPLY["entropies"], [head, *packed_floats(_ENTROPIES["nats"], nats)])
    if result.kept_count is not None and result.kept_mass is not None:
        pieces += packed_ints(_REPLY["kept_count"], result.kept_count)
        pieces += packed_floats(_REPLY["kept_mass"], result.kept_mass)
    return pieces
