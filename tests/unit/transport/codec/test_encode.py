"""Encoding: a whole reply, its chunks, which are the whole cut up, and errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.outputs import Outputs
from samplerd_server.core.request import RNG, SampleRequest
from samplerd_server.core.result import LogprobValues, RowError, SampleResult, Timing
from samplerd_server.transport.codec import encode as encoding
from samplerd_server.transport.codec.encode import encode, encode_chunks, encode_error, most_chunk_bytes
from tests.support.requests import request

NO_TIME = Timing(queue_s=0.0, compute_s=0.0, batch_rows=1)


@pytest.fixture(autouse=True, params=["short", "long"], scope="module")
def _writer(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs with protobuf, as for short replies, and with lists written beside it, as for long ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_PACKED_NUMBERS", 0 if request.param == "long" else 1 << 30)
        yield


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def result(samples: np.ndarray, **fields) -> SampleResult:
    return SampleResult(samples=samples, **{"row_errors": (), "timing": NO_TIME, **fields})


def full(rows: int, draws: int, *, raw: bool) -> tuple[SampleRequest, SampleResult]:
    """A result with every output there is; row 0 failed."""
    count = rows * draws
    values = LogprobValues(
        kind=LogprobKind.RAW,
        samples=np.linspace(-3, 0, count, dtype=np.float32),
        top_ids=np.arange(2 * rows, dtype=np.int32),
        top=np.linspace(-9, -8, 2 * rows, dtype=np.float32),
        named=np.linspace(-7, -6, rows, dtype=np.float32),
    )
    asked = request(
        np.zeros((rows, 4)), num_samples=draws, id=2**64 - 1, seed=2**64 - 1, outputs=Outputs(raw_samples=raw)
    )
    return asked, result(
        np.arange(count, dtype=np.int32) - 1,
        row_errors=(RowError(row=0, reason=RowErrorReason.NAN, message="NaN at id 3"),),
        timing=Timing(queue_s=1.25, compute_s=3e-9, batch_rows=77),
        logprobs=(values,),
        ranks=np.arange(count, dtype=np.int32),
        entropies=((LogprobKind.SCALED, np.linspace(0, 1, rows, dtype=np.float32)),),
        kept_count=np.arange(rows, dtype=np.int32),
        kept_mass=np.linspace(0, 1, rows, dtype=np.float32),
        adaptive_weighted_sum=np.linspace(0.1, 9.1, count),
        adaptive_total_weight=np.linspace(1.0, 10.0, count),
    )


def read(data: bytes) -> pb.SampleResponse:
    return pb.SampleResponse.FromString(data)


def test_the_least_reply():
    reply = read(encode(request([[0.0]], id=5, seed=9), result(ints(3, -1))))
    assert (reply.id, list(reply.samples), reply.seed, reply.rng) == (5, [3, -1], 9, RNG)
    assert reply.final
    assert not reply.chunk
    assert not reply.HasField("error")
    assert reply.timing.batch_rows == 1


def test_a_reply_with_everything():
    asked, answer = full(2, 3, raw=False)
    reply = read(encode(asked, answer))
    assert (reply.id, reply.seed) == (2**64 - 1, 2**64 - 1)
    assert list(reply.samples) == [-1, 0, 1, 2, 3, 4]
    assert list(reply.ranks) == [0, 1, 2, 3, 4, 5]
    (logprobs,) = reply.logprobs
    assert logprobs.kind == pb.LOGPROB_KIND_RAW
    assert list(logprobs.samples) == answer.logprobs[0].samples.tolist()
    assert (list(logprobs.top_ids), list(logprobs.top)) == ([0, 1, 2, 3], answer.logprobs[0].top.tolist())
    assert list(logprobs.named) == answer.logprobs[0].named.tolist()
    assert [(entry.kind, list(entry.nats)) for entry in reply.entropies] == [(pb.LOGPROB_KIND_SCALED, [0.0, 1.0])]
    assert (list(reply.kept_count), list(reply.kept_mass)) == ([0, 1], [0.0, 1.0])
    assert list(reply.adaptive_weighted_sum) == answer.adaptive_weighted_sum.tolist(), "binary64, as they are"
    assert list(reply.adaptive_total_weight) == answer.adaptive_total_weight.tolist()
    assert reply.row_errors == [pb.RowError(row=0, code=3, reason=pb.ROW_ERROR_REASON_NAN, message="NaN at id 3")]
    assert (reply.timing.queue.seconds, reply.timing.queue.nanos) == (1, 250_000_000)
    assert (reply.timing.compute.nanos, reply.timing.batch_rows) == (3, 77)


def test_raw_samples_are_little_endian_bytes():
    asked = request([[0.0]], outputs=Outputs(raw_samples=True, logprobs=(LogprobKind.SCALED,)))
    values = LogprobValues(kind=LogprobKind.SCALED, samples=floats(-1.5, math.nan), top_ids=None, top=None, named=None)
    reply = read(encode(asked, result(ints(258, -1), logprobs=(values,))))
    assert not reply.samples
    assert reply.raw_samples == b"\x02\x01\x00\x00\xff\xff\xff\xff"
    assert not reply.logprobs[0].samples
    assert reply.logprobs[0].raw_samples == np.array([-1.5, np.nan], "<f4").tobytes()


def test_slices_of_a_batch_are_encoded_as_what_they_show():
    batch = np.arange(20, dtype=np.int32)
    reply = read(encode(request([[0.0]], outputs=Outputs(raw_samples=True)), result(batch[5:9])))
    assert reply.raw_samples == batch[5:9].tobytes()


@given(rows=st.integers(1, 5), draws=st.integers(1, 7), chunk=st.integers(1, 40), raw=st.booleans())
def test_no_chunk_is_larger_than_its_bound_but_for_what_every_reply_has(rows, draws, chunk, raw):
    asked, answer = full(rows, draws, raw=raw)
    largest = max(len(data) for data in encode_chunks(asked.head, answer, chunk))
    assert largest <= most_chunk_bytes(answer, chunk) + 256
    failed = replace(answer, samples=np.full_like(answer.samples, -1), row_errors=answer.row_errors * rows)
    largest = max(len(data) for data in encode_chunks(asked.head, failed, chunk))
    assert largest <= most_chunk_bytes(failed, chunk) + 256


@given(rows=st.integers(1, 5), draws=st.integers(1, 7), chunk=st.integers(1, 40), raw=st.booleans())
def test_chunks_put_together_are_the_whole(rows, draws, chunk, raw):
    asked, answer = full(rows, draws, raw=raw)
    whole = read(encode(asked, answer))
    parts = [read(data) for data in encode_chunks(asked, answer, chunk)]
    assert len(parts) == -(-rows * draws // chunk)
    assert [part.chunk for part in parts] == list(range(len(parts)))
    assert [part.final for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all((part.id, part.seed, part.rng) == (asked.id, asked.seed, RNG) for part in parts)
    assert all(len(part.samples) + len(part.raw_samples) // 4 <= chunk for part in parts)

    together = pb.SampleResponse()
    together.CopyFrom(parts[0])
    for part in parts[1:]:
        for field in ("row_errors", "entropies", "kept_count", "kept_mass"):
            assert not getattr(part, field), "outputs of rows come with chunk 0"
        assert not part.HasField("timing")
        together.samples.extend(part.samples)
        together.raw_samples += part.raw_samples
        together.ranks.extend(part.ranks)
        together.adaptive_weighted_sum.extend(part.adaptive_weighted_sum)
        together.adaptive_total_weight.extend(part.adaptive_total_weight)
        together.logprobs[0].samples.extend(part.logprobs[0].samples)
        together.logprobs[0].raw_samples += part.logprobs[0].raw_samples
        assert part.logprobs[0].kind == pb.LOGPROB_KIND_RAW
        assert not part.logprobs[0].top
        assert not part.logprobs[0].named
    together.final = True
    assert together == whole


def test_chunks_are_made_when_asked_for():
    asked, answer = full(1, 6, raw=False)
    chunks = encode_chunks(asked, answer, 2)
    assert iter(chunks) is chunks
    assert read(next(chunks)).chunk == 0


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.999999999, 1.0, 86400.5, 0.9999999999999999])
def test_durations_stay_within_their_second(seconds):
    timing = Timing(queue_s=seconds, compute_s=0.0, batch_rows=1)
    queue = read(encode(request([[0.0]]), result(ints(0), timing=timing))).timing.queue
    assert 0 <= queue.nanos < 10**9
    assert abs(queue.seconds + queue.nanos / 1e9 - seconds) < 2e-9


def test_an_error_of_a_stream():
    reply = read(encode_error(2**64 - 1, status_pb2.Status(code=3, message="why")))
    assert (reply.id, reply.error.code, reply.error.message) == (2**64 - 1, 3, "why")
    assert reply.final
    assert reply.rng == RNG
