"""From the bytes of a reply to numpy arrays.

Letters: B rows, S draws per row, N top_n, M logprob_ids. Rule 1: arrays are the caller's own: writable, native.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.errors import InternalError, RowError, RowsFailedError
from samplerd_client.status import row_error
from samplerd_client.wire import repeated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf import duration_pb2
    from numpy.typing import NDArray

    from samplerd_client.params import LogprobKind
    from samplerd_client.request import RequestTemplate

__all__ = ["SampleChunk", "SampleResult", "Timing", "assemble", "decode_chunk", "raise_for_rows", "timing_of"]

_KINDS: dict[int, LogprobKind] = {
    pb.LOGPROB_KIND_RAW: "raw",
    pb.LOGPROB_KIND_SCALED: "scaled",
    pb.LOGPROB_KIND_PROCESSED: "processed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the server worked on a request."""

    queue_s: float
    """Seconds from its arrival until its batch was formed."""
    compute_s: float
    """Seconds that its batch spent in the sampler."""
    batch_rows: int
    """Rows in its batch, including its own."""


def raise_for_rows(errors: Sequence[RowError]) -> None:
    """Raise RowsFailedError if any row failed."""
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        text = f"row {first.row}: {first.message}{more}"
        raise RowsFailedError(text, reason=first.reason.name, row_errors=tuple(errors))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResult:
    """The answer to one request."""

    samples: NDArray[np.int32]
    """int32[B, S]: the ids drawn, in order of draw; -1 for a failed row."""
    seed: int
    """The seed that was used; 0 if the request had row_seeds."""
    rng: str
    """Name and version of the random number generator, and of the rule that turns its numbers into ids."""
    row_errors: tuple[RowError, ...] = ()
    """The rows that failed, in order of row."""
    timing: Timing
    logprobs: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """Kind -> float32[B, S]: log-probabilities of the drawn ids; NaN for a failed row."""
    top_ids: dict[LogprobKind, NDArray[np.int32]] = field(default_factory=dict)
    """Kind -> int32[B, N]: the most likely ids; -1 where a row has fewer."""
    top_logprobs: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """Kind -> float32[B, N]: their log-probabilities; -inf where a row has fewer."""
    named_logprobs: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """Kind -> float32[B, M]: log-probabilities of logprob_ids."""
    ranks: NDArray[np.int32] | None = None
    """int32[B, S]: rank of each sample, 1 = the most likely; 0 for a failed row. None unless asked for."""
    entropies: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """Kind -> float32[B]: entropies, in nats."""
    kept_count: NDArray[np.int32] | None = None
    """int32[B]: number of categories that the filters kept. None unless asked for."""
    kept_mass: NDArray[np.float32] | None = None
    """float32[B]: probability of the kept categories together, before the filters. None unless asked for."""
    adaptive_weighted_sum: NDArray[np.float64] | None = None
    """float64[B, S]: the state of adaptive-p after each sample, for the next request of a sequence that goes on with
    it; NaN for a failed row. None unless asked for."""
    adaptive_total_weight: NDArray[np.float64] | None = None
    """float64[B, S]: the other half of that state. None unless asked for."""

    def raise_for_rows(self) -> SampleResult:
        """Return the result itself, or raise RowsFailedError if a row failed."""
        raise_for_rows(self.row_errors)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleChunk:
    """A part of the reply to a large draw."""

    index: int
    """Index of the part, from 0."""
    offset: int
    """Index of its first sample in the row-major sequence of all rows x S samples."""
    samples: NDArray[np.int32]
    """int32[n]: the ids drawn."""
    logprobs: dict[LogprobKind, NDArray[np.float32]]
    """Kind -> float32[n]: their log-probabilities."""
    ranks: NDArray[np.int32] | None
    """int32[n]: their ranks. None unless asked for."""
    adaptive_weighted_sum: NDArray[np.float64] | None
    """float64[n]: the state of adaptive-p after each of them. None unless asked for."""
    adaptive_total_weight: NDArray[np.float64] | None
    """float64[n]: the other half of that state. None unless asked for."""
    row_errors: tuple[RowError, ...]
    """The rows that failed; only in the first chunk."""
    seed: int
    is_final: bool
    """This is the last part."""


def decode_chunk(response: pb.SampleResponse, offset: int) -> SampleChunk:
    """Return one chunk of a reply, whose samples begin at `offset`."""
    return SampleChunk(
        index=response.chunk,
        offset=offset,
        samples=samples_of(response),
        logprobs={_KINDS[entry.kind]: _sample_logprobs(entry) for entry in response.logprobs},
        ranks=repeated(response.ranks, np.int32) if response.ranks else None,
        adaptive_weighted_sum=repeated(response.adaptive_weighted_sum, np.float64)
        if response.adaptive_weighted_sum
        else None,
        adaptive_total_weight=repeated(response.adaptive_total_weight, np.float64)
        if response.adaptive_total_weight
        else None,
        row_errors=tuple(map(row_error, response.row_errors)),
        seed=response.seed,
        is_final=response.final,
    )


def assemble(chunks: Sequence[pb.SampleResponse], template: RequestTemplate) -> SampleResult:
    """Return the result that the chunks of a reply make up.

    Raises:
        InternalError: a chunk is missing, or a number of samples is not rows x S.

    """
    parts = sorted(chunks, key=lambda part: part.chunk) if len(chunks) > 1 else chunks
    if (len(parts) > 1 or parts[0].chunk) and [part.chunk for part in parts] != list(range(len(parts))):
        raise InternalError(f"the reply came in chunks {[part.chunk for part in parts]}")
    first, width = parts[0], template.num_samples
    try:
        if template.is_plain and len(parts) == 1:
            return SampleResult(
                samples=samples_of(first).reshape(-1, width),
                seed=first.seed,
                rng=first.rng,
                row_errors=tuple(map(row_error, first.row_errors)) if first.row_errors else (),
                timing=timing_of(first.timing),
            )
        outputs = template.message.outputs
        top_n, named = outputs.top_n, len(outputs.logprob_ids)
        return SampleResult(
            samples=_join(map(samples_of, parts), width),
            seed=first.seed,
            rng=first.rng,
            row_errors=tuple(map(row_error, first.row_errors)),
            timing=timing_of(parts[-1].timing if parts[-1].HasField("timing") else first.timing),
            logprobs={
                _KINDS[entry.kind]: _join((_sample_logprobs(_of_kind(part, entry.kind)) for part in parts), width)
                for entry in first.logprobs
            },
            top_ids=_per_row(first, "top_ids", np.int32, top_n),
            top_logprobs=_per_row(first, "top", np.float32, top_n),
            named_logprobs=_per_row(first, "named", np.float32, named),
            ranks=_join((repeated(part.ranks, np.int32) for part in parts), width) if outputs.rank else None,
            entropies={_KINDS[entry.kind]: repeated(entry.nats, np.float32) for entry in first.entropies},
            kept_count=repeated(first.kept_count, np.int32) if outputs.kept else None,
            kept_mass=repeated(first.kept_mass, np.float32) if outputs.kept else None,
            adaptive_weighted_sum=_join((repeated(part.adaptive_weighted_sum, np.float64) for part in parts), width)
            if outputs.adaptive_state
            else None,
            adaptive_total_weight=_join((repeated(part.adaptive_total_weight, np.float64) for part in parts), width)
            if outputs.adaptive_state
            else None,
        )
    except (KeyError, ValueError) as error:
        raise InternalError(f"the reply does not fit the request: {error}") from error


def samples_of(response: pb.SampleResponse) -> NDArray[np.int32]:
    if raw := response.raw_samples:
        return np.frombuffer(raw, dtype="<i4").astype(np.int32)
    return repeated(response.samples, np.int32)


def _sample_logprobs(entry: pb.Logprobs) -> NDArray[np.float32]:
    if raw := entry.raw_samples:
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)
    return repeated(entry.samples, np.float32)


def _of_kind(response: pb.SampleResponse, kind: int) -> pb.Logprobs:
    for entry in response.logprobs:
        if entry.kind == kind:
            return entry
    raise ValueError(f"chunk {response.chunk} has no log-probabilities of kind {kind}")


def _per_row(response: pb.SampleResponse, name: str, dtype: Any, width: int) -> dict[LogprobKind, NDArray[Any]]:
    if width == 0:
        return {}
    return {_KINDS[entry.kind]: repeated(getattr(entry, name), dtype).reshape(-1, width) for entry in response.logprobs}


def _join(parts: Iterable[NDArray[Any]], width: int) -> NDArray[Any]:
    arrays = list(parts)
    return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)).reshape(-1, width)


def timing_of(timing: pb.Timing) -> Timing:
    """Return a reply's timing."""
    return Timing(queue_s=_seconds(timing.queue), compute_s=_seconds(timing.compute), batch_rows=timing.batch_rows)


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos * 1e-9
