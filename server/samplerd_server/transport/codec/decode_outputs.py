"""The arrow ``pb.Outputs -> Outputs``: what a request wants beside its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.core.enums import LogprobKind
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.outputs import OutputFlags, Outputs
from samplerd_server.transport.codec.decode_ids import ParamsContext, decode_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd.v1 import sampler_pb2 as pb

__all__ = ["decode_outputs"]


def decode_outputs(outputs: pb.Outputs, context: ParamsContext, max_top_n: int) -> Outputs:
    """Check what a request wants beside its samples.

    Args:
        outputs: as received.
        context: vocabulary size and limits.
        max_top_n: limits.max_top_n.

    Raises:
        InvalidRequestError: a value is out of range or contradicts another.
        NotImplementedFieldError: an output is asked for that the sampler cannot give.

    """
    logprobs = _decode_kinds(outputs.logprobs, "outputs.logprobs")
    entropy = _decode_kinds(outputs.entropy, "outputs.entropy")
    wants = {
        "Outputs.top_n": outputs.top_n,
        "Outputs.logprob_ids": outputs.logprob_ids,
        "Outputs.rank": outputs.rank,
        "Outputs.entropy": entropy,
        "Outputs.kept": outputs.kept,
        "Outputs.adaptive_state": outputs.adaptive_state,
        "Outputs.logprobs.processed": LogprobKind.PROCESSED in logprobs,
    }
    for name, is_wanted in wants.items():
        if is_wanted and name not in context.capabilities:
            raise NotImplementedFieldError("outputs." + name.partition(".")[2])
    if outputs.top_n > max_top_n:
        raise InvalidRequestError("outputs.top_n", f"{outputs.top_n} is more than the limit of {max_top_n}")
    if (outputs.top_n or outputs.logprob_ids) and not logprobs:
        name = "top_n" if outputs.top_n else "logprob_ids"
        raise InvalidRequestError(f"outputs.{name}", "needs outputs.logprobs to say which kinds")
    flags = OutputFlags(0)
    for kind in logprobs:
        flags |= OutputFlags(OutputFlags.RAW << (kind - 1))
    for kind in entropy:
        flags |= OutputFlags(OutputFlags.ENTROPY_RAW << (kind - 1))
    flags |= OutputFlags.RANK if outputs.rank else OutputFlags(0)
    flags |= OutputFlags.KEPT if outputs.kept else OutputFlags(0)
    flags |= OutputFlags.ADAPTIVE if outputs.adaptive_state else OutputFlags(0)
    return Outputs(
        raw_samples=outputs.raw_samples,
        logprobs=logprobs,
        top_n=outputs.top_n,
        logprob_ids=decode_ids(outputs.logprob_ids, "outputs.logprob_ids", context),
        rank=outputs.rank,
        entropy=entropy,
        kept=outputs.kept,
        adaptive_state=outputs.adaptive_state,
        output_flags=flags,
    )


def _decode_kinds(values: Iterable[int], path: str) -> tuple[LogprobKind, ...]:
    kinds = set()
    for at, value in enumerate(values):
        if value not in {1, 2, 3}:
            raise InvalidRequestError(f"{path}[{at}]", f"{value} is not a known LogprobKind")
        kinds.add(LogprobKind(value))
    return tuple(sorted(kinds))
