"""Requests laid side by side and cut apart again: everyone gets their own rows and outputs, whatever the mix."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack, unpack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, RowErrorReason
from samplerd_server.core.outputs import OutputFlags, Outputs
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.result import Timing
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW, RowBatch, RowResults, new_results

kinds = st.lists(st.sampled_from(LogprobKind), unique=True).map(lambda found: tuple(sorted(found)))


@st.composite
def outputs(draw, vocab_size: int) -> Outputs:
    logprobs, entropy = draw(kinds), draw(kinds)
    rank, kept, adaptive = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    flags = OutputFlags(0)
    for kind in logprobs:
        flags |= OutputFlags(1 << (kind - 1))
    for kind in entropy:
        flags |= OutputFlags(OutputFlags.ENTROPY_RAW << (kind - 1))
    flags |= OutputFlags.RANK * rank | OutputFlags.KEPT * kept | OutputFlags.ADAPTIVE * adaptive
    ids = draw(st.none() | st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=3)) if logprobs else None
    return Outputs(
        logprobs=logprobs,
        top_n=draw(st.integers(0, 3)) if logprobs else 0,
        logprob_ids=None if ids is None else np.array(ids, np.int32),
        rank=rank,
        entropy=entropy,
        kept=kept,
        adaptive_state=adaptive,
        output_flags=OutputFlags(flags),
    )


@st.composite
def requests(draw) -> SampleRequest:
    rows, vocab_size = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    if draw(st.integers(0, 3)):
        dtype = draw(st.sampled_from(Dtype))
        size = rows * vocab_size * dtype.itemsize
        data = draw(st.binary(min_size=size, max_size=size))
        if draw(st.booleans()):
            data = memoryview(b"x" + data)[1:]  # not aligned
        source = DenseRows(dtype=dtype, rows=rows, vocab_size=vocab_size, data=data)
    else:
        ids = np.arange(draw(st.integers(1, vocab_size)), dtype=np.int32)
        row = CandidateRow(ids=ids, logits=np.float32(ids) * 2, rest_logsumexp=draw(st.floats(-5, 5)))
        source = CandidateRows(vocab_size=vocab_size, candidates=(row,) * rows)
    every = st.builds(
        SamplingParams,
        temperature=st.floats(0, 5),
        top_k=st.integers(0, 9),
        top_p=st.floats(0.1, 1),
        is_plain=st.just(False),
        guidance_scale=st.sampled_from([1.0, 2.5]),
        adaptive_target=st.sampled_from([0.0, 0.5]),
        adaptive_weighted_sum=st.sampled_from([0.0, 1.5]),
        adaptive_total_weight=st.sampled_from([0.0, 2.25]),
    ) | st.builds(SamplingParams, temperature=st.floats(0, 5))
    guidance = None
    if isinstance(source, DenseRows) and draw(st.booleans()):
        other = draw(st.sampled_from(Dtype))
        size = rows * vocab_size * other.itemsize
        data = memoryview(b"x" + draw(st.binary(min_size=size, max_size=size)))[1:]
        guidance = DenseRows(dtype=other, rows=rows, vocab_size=vocab_size, data=data)
    return SampleRequest(
        id=draw(st.integers(0, 99)),
        source=source,
        guidance=guidance,
        params=tuple(draw(st.lists(every, min_size=rows, max_size=rows))) if draw(st.booleans()) else (draw(every),),
        num_samples=draw(st.integers(1, 5)),
        with_replacement=draw(st.booleans()),
        kind=draw(st.sampled_from(InputKind)),
        seed=draw(st.integers(0, 2**64 - 1)),
        row_seeds=np.arange(rows, dtype=np.uint64) + np.uint64(2**63) if draw(st.booleans()) else None,
        draw_offset=draw(st.integers(0, 2**63)),
        outputs=draw(outputs(vocab_size)),
    )


batches = st.lists(requests(), min_size=1, max_size=6)


def buffer_of(request: SampleRequest, row: int) -> bytes:
    if isinstance(request.source, CandidateRows):
        return request.source.candidates[row].logits.tobytes()
    size = request.source.vocab_size * request.source.dtype.itemsize
    return bytes(request.source.data[row * size : (row + 1) * size])


@given(batches)
def test_every_record_says_what_its_row_is(asked):
    batch = pack(asked)
    assert batch.rows.dtype == ROW
    assert len(batch) == sum(one.rows for one in asked)
    assert batch.samples == sum(one.rows * one.num_samples for one in asked)
    assert batch.rows.flags.writeable
    records = iter(batch.rows)
    sample_at = 0
    for one in asked:
        for row in range(one.rows):
            record = next(records)
            own = one.params[row] if len(one.params) > 1 else one.params[0]
            is_sparse = isinstance(one.source, CandidateRows)
            itemsize = 4 if is_sparse else one.source.dtype.itemsize
            size = int(record["width"]) * itemsize
            assert read_bytes(int(record["data"]), size).tobytes() == buffer_of(one, row)
            assert record["vocab_size"] == one.source.vocab_size
            assert record["dtype"] == (Dtype.F32 if is_sparse else one.source.dtype)
            assert record["temperature"] == own.temperature
            assert (record["top_k"], record["top_p"]) == (own.top_k, own.top_p)
            assert record["num_samples"] == one.num_samples
            assert record["sample_at"] == sample_at
            assert record["draw_offset"] == one.draw_offset
            assert (record["kind"], record["without"]) == (one.kind, not one.with_replacement)
            if one.row_seeds is None:
                assert (record["seed"], record["row_index"]) == (one.seed, row)
            else:
                assert (record["seed"], record["row_index"]) == (one.row_seeds[row], 0)
            assert record["output_flags"] == one.outputs.output_flags
            if is_sparse:
                candidates = one.source.candidates[row]
                ids = read_bytes(int(record["candidate_ids"]), 4 * len(candidates.ids)).view(np.int32)
                assert ids.tolist() == candidates.ids.tolist()
                assert record["rest_logsumexp"] == candidates.rest_logsumexp
            if one.guidance is None or own.guidance_scale == 1.0:
                assert (record["guidance"], record["guidance_dtype"]) == (0, 0)
            else:
                assert record["guidance_scale"] == own.guidance_scale
                assert record["guidance_dtype"] == one.guidance.dtype
                size = one.guidance.vocab_size * one.guidance.dtype.itemsize
                found = read_bytes(int(record["guidance"]), size).tobytes()
                assert found == bytes(one.guidance.data[row * size : (row + 1) * size])
            if record["plain"]:
                assert own.is_plain
                assert record.tobytes()[HOT.size :] == COLD_DEFAULT
            else:
                assert not own.is_plain or is_sparse or one.outputs.top_n or one.outputs.logprob_ids is not None
            sample_at += one.num_samples


def labelled(batch: RowBatch) -> RowResults:
    """Results in which every number says where it belongs: the row's place in the batch, and its own within the row."""
    results = new_results(batch)
    assert len(results.samples) == batch.samples
    for place, record in enumerate(batch.rows):
        begin, count = int(record["sample_at"]), int(record["num_samples"])
        label = place * 1000 + np.arange(count)
        results.samples[begin : begin + count] = label
        if results.ranks is not None:
            results.ranks[begin : begin + count] = label
        for kind, array in results.logprobs.items():
            array[begin : begin + count] = label + 100 * kind
        for kind in results.top_logprobs:
            at, n = int(record["top_at"]), int(record["top_n"])
            results.top_logprobs[kind][at : at + n] = place * 1000 + 100 * kind + np.arange(n)
            results.top_ids[kind][at : at + n] = place * 1000 + 100 * kind + np.arange(n)
        for kind in results.named:
            at, n = int(record["named_at"]), int(record["named_len"])
            results.named[kind][at : at + n] = place * 1000 + 100 * kind + np.arange(n)
        for kind, array in results.entropy.items():
            array[place] = place * 1000 + 100 * kind
        if results.kept_count is not None:
            results.kept_count[place] = place * 1000
            results.kept_mass[place] = place * 1000
        if results.unshaped is not None:
            results.unshaped[begin : begin + count] = label
    return results


def expected(first: int, rows: int, each: int, base: int = 0) -> list[int]:
    return [(first + row) * 1000 + base + index for row in range(rows) for index in range(each)]


@given(batches, st.data())
def test_what_is_cut_apart_is_everyones_own(asked, data):
    batch = pack(asked)
    results = labelled(batch)
    failing = data.draw(st.sets(st.integers(0, len(batch) - 1)))
    for place in failing:
        results.status[place] = RowErrorReason.NAN
        results.detail[place] = place
    timings = [Timing(queue_s=float(index), compute_s=1.0, batch_rows=len(batch)) for index in range(len(asked))]
    first = 0
    answers = unpack(asked, results, timings)
    assert len(answers) == len(asked)
    for index, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        rows, wants = one.rows, one.outputs
        assert answer.samples.tolist() == expected(first, rows, one.num_samples)
        assert answer.timing.queue_s == index
        assert [(e.row, e.message) for e in answer.row_errors] == [
            (place - first, f"NaN at id {place}") for place in sorted(failing) if first <= place < first + rows
        ]
        assert [values.kind for values in answer.logprobs] == list(wants.logprobs)
        for values in answer.logprobs:
            base = 100 * values.kind
            assert values.samples.tolist() == expected(first, rows, one.num_samples, base)
            assert (values.top is None) == (wants.top_n == 0)
            if values.top is not None:
                assert values.top.tolist() == values.top_ids.tolist() == expected(first, rows, wants.top_n, base)
            assert (values.named is None) == (wants.logprob_ids is None)
            if values.named is not None:
                assert values.named.tolist() == expected(first, rows, len(wants.logprob_ids), base)
        assert (answer.ranks is not None) == wants.rank
        assert answer.ranks is None or answer.ranks.tolist() == expected(first, rows, one.num_samples)
        assert [kind for kind, _ in answer.entropies] == list(wants.entropy)
        for kind, nats in answer.entropies:
            assert nats.tolist() == expected(first, rows, 1, 100 * kind)
        assert (answer.kept_count is not None) == wants.kept
        if answer.kept_count is not None:
            assert answer.kept_count.tolist() == answer.kept_mass.tolist() == expected(first, rows, 1)
        assert (answer.adaptive_weighted_sum is not None) == wants.adaptive_state
        if answer.adaptive_weighted_sum is not None:
            own = one.params * rows if len(one.params) == 1 else one.params
            states = [
                (np.nan, np.nan)
                if first + row in failing
                else (
                    (first + row) * 1000 + at + 0.9 * fields.adaptive_weighted_sum,
                    1 + 0.9 * fields.adaptive_total_weight,
                )
                if fields.adaptive_target
                else (fields.adaptive_weighted_sum, fields.adaptive_total_weight)
                for row, fields in enumerate(own)
                for at in range(one.num_samples)
            ]
            got = np.stack([answer.adaptive_weighted_sum, answer.adaptive_total_weight], axis=1)
            np.testing.assert_allclose(got, states, rtol=1e-15)
        first += rows


def test_the_batch_keeps_the_rows_alive():
    data = np.arange(4, dtype=np.float32).tobytes()
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=4, data=bytearray(data))
    batch = pack([SampleRequest(id=1, source=source, params=(SamplingParams(),))])
    del source
    assert read_bytes(int(batch.rows[0]["data"]), 16).tobytes() == data
