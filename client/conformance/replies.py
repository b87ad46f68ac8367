"""Replies worked out by the float64 reference: no server, no kernel has a say in them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.request import RNG
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.adaptive_state import next_states
from samplerd_server.sampling.reference import pipeline as reference
from samplerd_server.sampling.reference import verify as reference_verify
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder

if TYPE_CHECKING:
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.sampling.reference.pipeline import RowOutcome

__all__ = ["draft_reply", "sample_reply"]

_NAN = float("nan")


class _Everything(frozenset[str]):
    """The capabilities of the reference."""

    def __contains__(self, _: object) -> bool:
        return True


_DECODER = Decoder(limits=LimitsConfig(), capabilities=_Everything())


def sample_reply(message: pb.SampleRequest) -> pb.SampleResponse:
    """Answer a request of Sample, timing aside.

    Raises:
        InvalidRequestError: it is malformed.

    """
    request = _DECODER.decode(message)
    outcomes = reference.sample(request)
    reply = pb.SampleResponse(id=request.id, rng=RNG, final=True)
    reply.seed = 0 if request.row_seeds is not None else request.seed
    size = request.num_samples
    samples = [token for row in outcomes for token in row.samples or (-1,) * size]
    if request.outputs.raw_samples:
        reply.raw_samples = struct.pack(f"<{len(samples)}i", *samples)
    else:
        reply.samples.extend(samples)
    _add_logprobs(reply, request, outcomes)
    outputs = request.outputs
    if outputs.rank:
        reply.ranks.extend(rank for row in outcomes for rank in row.ranks or [0] * size)
    for kind in outputs.entropy:
        nats = [_NAN if _has_failed(row) else row.distributions[kind].entropy() for row in outcomes]
        reply.entropies.append(pb.Entropies(kind=pb.LogprobKind.ValueType(int(kind)), nats=nats))
    if outputs.kept:
        reply.kept_count.extend(row.kept_count for row in outcomes)
        reply.kept_mass.extend(row.kept_mass for row in outcomes)
    if outputs.adaptive_state:
        unshaped = np.array([p for row in outcomes for p in row.unshaped or [_NAN] * size])
        sums, weights = next_states(request.params, unshaped, np.array([_has_failed(row) for row in outcomes]))
        reply.adaptive_weighted_sum.extend(sums.tolist())
        reply.adaptive_total_weight.extend(weights.tolist())
    for number, row in enumerate(outcomes):
        if _has_failed(row):
            reply.row_errors.append(
                pb.RowError(row=number, code=3, reason=pb.RowErrorReason.ValueType(int(row.reason)))
            )
    return reply


def _add_logprobs(reply: pb.SampleResponse, request: SampleRequest, outcomes: list[RowOutcome]) -> None:
    outputs, size = request.outputs, request.num_samples
    for kind in outputs.logprobs:
        own = pb.Logprobs(kind=pb.LogprobKind.ValueType(int(kind)))
        samples = [value for row in outcomes for value in row.logprobs.get(kind, [_NAN] * size)]
        if outputs.raw_samples:
            own.raw_samples = struct.pack(f"<{len(samples)}f", *samples)
        else:
            own.samples.extend(samples)
        for row in outcomes:
            if outputs.top_n:
                failed = ([-1] * outputs.top_n, [_NAN] * outputs.top_n)
                ids, values = failed if _has_failed(row) else row.top(kind, outputs.top_n)
                own.top_ids.extend(ids)
                own.top.extend(values)
            if outputs.logprob_ids is not None:
                named = [int(token) for token in outputs.logprob_ids]
                own.named.extend(_NAN if _has_failed(row) else row.distributions[kind].of(token) for token in named)
        reply.logprobs.append(own)


def _has_failed(row: RowOutcome) -> bool:
    return row.reason is not RowErrorReason.NONE


def draft_reply(message: pb.VerifyDraftRequest) -> pb.VerifyDraftResponse:
    """Answer a request of VerifyDraft, timing aside.

    Raises:
        InvalidRequestError: it is malformed.

    """
    request = DraftDecoder(samples=_DECODER).decode(message)
    draft = request.draft
    assert draft is None or isinstance(draft, DenseRows)
    verdict = reference_verify.verify(request.target, request.draft_ids.tolist(), request.parents.tolist(), draft)
    return pb.VerifyDraftResponse(
        id=message.id,
        seed=message.seed,
        rng=RNG,
        samples=verdict.samples,
        accepted=verdict.accepted,
        path=verdict.path,
    )
