"""The arrow ``SampleResult -> bytes``: one reply, or the chunks of a large one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import Code
from samplerd_server.core.outputs import NO_OUTPUTS
from samplerd_server.core.request import RNG
from samplerd_server.transport.codec.encode_lists import Part, encode_lists

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from google.protobuf.duration_pb2 import Duration
    from google.rpc import status_pb2
    from numpy.typing import NDArray

    from samplerd_server.core.request import ReplyHead, SampleRequest, VerifyRequest
    from samplerd_server.core.result import RowError, SampleResult, Timing, VerifyResult

__all__ = [
    "encode",
    "encode_chunks",
    "encode_draft_error",
    "encode_each",
    "encode_error",
    "encode_part",
    "encode_verdict",
    "is_long",
    "most_chunk_bytes",
]


def encode(request: SampleRequest | ReplyHead, result: SampleResult) -> bytes:
    """Encode the whole result as one message."""
    if result.row_errors or request.outputs is not NO_OUTPUTS or len(result.samples) > _MAX_REUSED_SAMPLES:
        return _encode(request, result, Part(chunk=0, begin=0, end=len(result.samples), is_last=True))
    return _PLAIN.encode(request, result)


def encode_each(ids: Sequence[int], seeds: Sequence[int], result: SampleResult) -> list[bytes]:
    """Encode as many replies, with an even share of the samples each, of a result without errors and outputs."""
    return _PLAIN.encode_each(ids, seeds, result)


def is_long(result: SampleResult) -> bool:
    """Whether encoding a result takes longer than passing it to another thread, and longer than others should wait."""
    return _count_numbers(result) > _LONG_NUMBERS


def most_chunk_bytes(result: SampleResult, chunk_samples: int) -> int:
    """Bound the bytes of the largest of the messages of `encode_chunks`.

    An id below 2^28 has no more bytes there than in memory, and -1, the id of a failed row, has ten instead of four.
    """
    samples = len(result.samples)
    per_sample = result.per_sample_bytes * min(chunk_samples, samples) // max(1, samples)
    most = per_sample + result.held_bytes - result.per_sample_bytes
    return most * 10 // 4 if result.row_errors else most


_LONG_NUMBERS = 1 << 17
"""Numbers in a reply that take half a millisecond."""
_PACKED_NUMBERS = 1024
"""Of no more numbers, protobuf makes a message faster than we do."""
_MAX_REUSED_SAMPLES = 4096
"""The most samples in a reply that reuses its message: a message never frees memory."""


class _PlainReply:
    """A reply with samples and timing only, reused for every request: making one takes longer than filling it.

    Only the event loop may use it.
    """

    __slots__ = ("_compute", "_queue", "_reply", "_samples", "_timing")

    def __init__(self) -> None:
        self._reply = pb.SampleResponse(rng=RNG, final=True)
        self._samples = self._reply.samples
        self._timing = self._reply.timing
        self._queue = self._timing.queue
        self._compute = self._timing.compute

    def encode(self, request: SampleRequest | ReplyHead, result: SampleResult) -> bytes:
        reply = self._reply
        reply.id = request.id
        reply.seed = request.seed
        self._samples[:] = result.samples.tolist()
        self._set_timing(result.timing)
        return reply.SerializeToString()

    def encode_each(self, ids: Sequence[int], seeds: Sequence[int], result: SampleResult) -> list[bytes]:
        reply, samples, values = self._reply, self._samples, result.samples.tolist()
        share, replies = len(values) // len(ids), []
        self._set_timing(result.timing)
        for own_id, seed, begin in zip(ids, seeds, range(0, len(values), share), strict=True):
            reply.id = own_id
            reply.seed = seed
            samples[:] = values[begin : begin + share]
            replies.append(reply.SerializeToString())
        return replies

    def _set_timing(self, timing: Timing) -> None:
        _set_duration(self._queue, timing.queue_s)
        _set_duration(self._compute, timing.compute_s)
        self._timing.batch_rows = timing.batch_rows


_PLAIN = _PlainReply()


def encode_chunks(request: SampleRequest | ReplyHead, result: SampleResult, chunk_samples: int) -> Iterator[bytes]:
    """Encode a result as messages of at most `chunk_samples` samples; the last one is final.

    Per-row outputs and row errors come with the first.
    """
    total = len(result.samples)
    if total <= chunk_samples:
        yield encode(request, result)
        return
    for chunk, begin in enumerate(range(0, total, chunk_samples)):
        end = min(begin + chunk_samples, total)
        yield _encode(request, result, Part(chunk=chunk, begin=begin, end=end, is_last=end == total))


def encode_part(request: SampleRequest, result: SampleResult, chunk: int, *, is_last: bool) -> bytes:
    """Encode the result of a part of a request as one chunk of its reply."""
    return _encode(request, result, Part(chunk=chunk, begin=0, end=len(result.samples), is_last=is_last))


def encode_error(request_id: int, status: status_pb2.Status) -> bytes:
    """Encode the failure of one request of a stream."""
    return pb.SampleResponse(id=request_id, error=status, rng=RNG, final=True).SerializeToString()


def encode_verdict(request: VerifyRequest, result: VerifyResult) -> pb.VerifyDraftResponse:
    """Encode the verdict on a draft."""
    reply = pb.VerifyDraftResponse(
        id=request.id,
        samples=result.samples,
        accepted=len(result.path),
        path=result.path,
        seed=request.target.seed,
        rng=RNG,
    )
    _add_row_errors(reply, result.row_errors)
    _set_timing(reply.timing, result.timing)
    return reply


def encode_draft_error(request_id: int, status: status_pb2.Status) -> bytes:
    """Encode the failure of one draft of a stream."""
    return pb.VerifyDraftResponse(id=request_id, error=status, rng=RNG).SerializeToString()


def _count_numbers(result: SampleResult) -> int:
    numbers = len(result.samples) * (1 + len(result.logprobs))
    for values in result.logprobs:
        numbers += 0 if values.top is None else 2 * len(values.top)
        numbers += 0 if values.named is None else len(values.named)
    return numbers


def _encode(request: SampleRequest | ReplyHead, result: SampleResult, part: Part) -> bytes:
    reply = pb.SampleResponse(id=request.id, seed=request.seed, rng=RNG, chunk=part.chunk, final=part.is_last)
    if part.chunk == 0:
        _add_row_errors(reply, result.row_errors)
        _set_timing(reply.timing, result.timing)
    if _count_numbers(result) > _PACKED_NUMBERS:
        return encode_lists(reply.SerializeToString(), request, result, part)
    _add_samples(reply, request, result, part.begin, part.end)
    if part.chunk == 0:
        _add_row_outputs(reply, result)
    return reply.SerializeToString()


def _add_samples(
    reply: pb.SampleResponse, request: SampleRequest | ReplyHead, result: SampleResult, begin: int, end: int
) -> None:
    """Add everything that comes one per sample, from sample `begin` to before `end`."""
    is_raw = request.outputs.raw_samples
    samples = result.samples[begin:end]
    if is_raw:
        reply.raw_samples = _little_endian(samples)
    else:
        reply.samples.extend(samples.tolist())
    if result.ranks is not None:
        reply.ranks.extend(result.ranks[begin:end].tolist())
    if result.adaptive_weighted_sum is not None and result.adaptive_total_weight is not None:
        reply.adaptive_weighted_sum.extend(result.adaptive_weighted_sum[begin:end].tolist())
        reply.adaptive_total_weight.extend(result.adaptive_total_weight[begin:end].tolist())
    for values in result.logprobs:
        own = values.samples[begin:end]
        entry = reply.logprobs.add(kind=int(values.kind))
        if is_raw:
            entry.raw_samples = _little_endian(own)
        else:
            entry.samples.extend(own.tolist())


def _add_row_outputs(reply: pb.SampleResponse, result: SampleResult) -> None:
    """Add everything that comes one per row or per request."""
    for entry, values in zip(reply.logprobs, result.logprobs, strict=True):
        if values.top_ids is not None and values.top is not None:
            entry.top_ids.extend(values.top_ids.tolist())
            entry.top.extend(values.top.tolist())
        if values.named is not None:
            entry.named.extend(values.named.tolist())
    for kind, nats in result.entropies:
        reply.entropies.add(kind=int(kind), nats=nats.tolist())
    if result.kept_count is not None and result.kept_mass is not None:
        reply.kept_count.extend(result.kept_count.tolist())
        reply.kept_mass.extend(result.kept_mass.tolist())


def _add_row_errors(reply: pb.SampleResponse | pb.VerifyDraftResponse, errors: tuple[RowError, ...]) -> None:
    for error in errors:
        reply.row_errors.add(
            row=error.row, code=int(Code.INVALID_ARGUMENT), reason=int(error.reason), message=error.message
        )


def _set_timing(message: pb.Timing, timing: Timing) -> None:
    _set_duration(message.queue, timing.queue_s)
    _set_duration(message.compute, timing.compute_s)
    message.batch_rows = timing.batch_rows


def _set_duration(duration: Duration, seconds: float) -> None:
    whole = int(seconds)
    duration.seconds = whole
    duration.nanos = int((seconds - whole) * 1e9)


def _little_endian(values: NDArray[np.int32] | NDArray[np.float32]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
