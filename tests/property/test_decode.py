"""Whatever bytes arrive, decoding gives a request or an error of ours; whatever was sent rightly is what is decoded."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.errors import Code, SamplerdError
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import CandidateRows, DenseRows
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.status import trailers_of

CAPABILITIES = frozenset(
    [f"SamplingParams.{field.name}" for field in pb.SamplingParams.DESCRIPTOR.fields]
    + [f"Outputs.{field.name}" for field in pb.Outputs.DESCRIPTOR.fields]
    + ["Outputs.logprobs.processed", "SampleRequest.candidates"]
)
LIMITS = LimitsConfig(max_rows=8, max_vocab_size=1 << 20, max_samples=1 << 20, max_ids_per_list=16)
FULL = Decoder(limits=LIMITS, capabilities=CAPABILITIES)
BASIC = Decoder(limits=LIMITS, capabilities=frozenset())

uint32 = st.integers(0, 5) | st.integers(0, 2**32 - 1)
int32 = st.integers(-2, 5) | st.integers(-(2**31), 2**31 - 1)
uint64 = st.integers(0, 5) | st.integers(0, 2**64 - 1)
double = st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, -1.0, math.nan, math.inf, -math.inf]) | st.floats()
float32 = st.floats(width=32)
enum = st.integers(-1, 5)


def message(cls, **fields):
    """Messages of which each field may be missing."""
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: cls(**values))


tensors = message(
    pb.Tensor, dtype=enum, rows=uint32, vocab_size=uint32, data=st.binary(max_size=64) | st.just(bytes(8))
)
candidate_rows = message(
    pb.Candidates.Row,
    ids=st.lists(int32, max_size=4),
    logits=st.lists(float32, max_size=4),
    rest_logsumexp=double,
)
sequences = message(pb.TokenSequence, ids=st.lists(int32, max_size=3))
params = message(
    pb.SamplingParams,
    **{f.name: double for f in pb.SamplingParams.DESCRIPTOR.fields if f.cpp_type == f.CPPTYPE_DOUBLE},
    top_k=uint32,
    dry=message(
        pb.DryParams,
        multiplier=double,
        base=double,
        allowed_length=uint32,
        range=uint32,
        sequence_breakers=st.lists(int32, max_size=3),
        breaker_sequences=st.lists(sequences, max_size=3),
        allow_no_repeat=st.booleans(),
    ),
    penalty_range=uint32,
    prompt_length=uint32,
    repetition_scope=enum,
    frequency_scope=enum,
    presence_scope=enum,
    bad_words_scope=enum,
    no_repeat_ngram_size=uint32,
    bad_words=st.lists(sequences, max_size=3),
    history=st.lists(int32, max_size=3),
    logit_bias=st.lists(message(pb.LogitBias, id=int32, bias=float32), max_size=3),
    allowed_tokens=st.lists(int32, max_size=3),
    token_bitmask=st.binary(max_size=8),
    min_tokens_to_keep=uint32,
    order=enum,
)
sources = st.one_of(
    tensors.map(lambda tensor: {"tensor": tensor}),
    st.just({"tensor": pb.Tensor(rows=2, vocab_size=3, data=bytes(24))}),
    st.just({"tensor": pb.Tensor(rows=1, vocab_size=1, data=bytes(4))}),
    message(pb.Values, row=st.lists(message(pb.Values.Row, values=st.lists(float32, max_size=3)), max_size=3)).map(
        lambda values: {"values": values}
    ),
    message(pb.Candidates, row=st.lists(candidate_rows, max_size=3), vocab_size=uint32).map(
        lambda candidates: {"candidates": candidates}
    ),
    st.just({"distribution": "words"}),
    st.just({"shared_memory": pb.SharedMemory()}),
    st.just({}),
)
requests = st.tuples(
    sources,
    message(
        pb.SampleRequest,
        id=uint64,
        params=params,
        num_samples=uint32,
        seed=uint64,
        replacement=enum,
        kind=enum,
        outputs=message(
            pb.Outputs,
            raw_samples=st.booleans(),
            logprobs=st.lists(enum, max_size=3),
            top_n=uint32,
            logprob_ids=st.lists(int32, max_size=3),
            rank=st.booleans(),
            entropy=st.lists(enum, max_size=3),
            kept=st.booleans(),
            adaptive_state=st.booleans(),
        ),
        draw_offset=uint64,
        priority=int32,
        row_params=st.lists(params, max_size=3),
        row_seeds=st.lists(uint64, max_size=3),
    ),
).map(lambda parts: merged(*parts))


def merged(source, request):
    request.MergeFrom(pb.SampleRequest(**source))
    return request


def check(request: SampleRequest) -> None:
    """What nobody downstream asks again."""
    source = request.source
    assert 1 <= source.rows <= LIMITS.max_rows
    assert 1 <= source.vocab_size <= LIMITS.max_vocab_size
    if isinstance(source, DenseRows):
        assert len(source.data) == source.rows * source.vocab_size * source.dtype.itemsize
    else:
        assert isinstance(source, CandidateRows)
        for row in source.candidates:
            assert row.ids.dtype == np.int32
            assert row.logits.dtype == np.float32
            assert len(row.ids) == len(row.logits) > 0
            assert (np.diff(row.ids) > 0).all()
            assert row.ids[0] >= 0
            assert row.ids[-1] < source.vocab_size
            assert row.rest_logsumexp < math.inf
    assert request.num_samples >= 1
    assert request.rows * request.num_samples <= LIMITS.max_samples
    assert 0 <= request.seed < 2**64
    assert request.draw_offset + request.num_samples <= 2**64
    assert request.with_replacement or request.draw_offset == 0
    assert len(request.params) in {1, request.rows}
    assert request.row_seeds is None or (len(request.row_seeds), request.seed) == (request.rows, 0)
    assert -100 <= request.priority <= 100
    for own in request.params:
        numbers = [value for value in (getattr(own, name) for name in own.__slots__) if isinstance(value, float)]
        assert all(math.isfinite(value) for value in numbers)
        assert own.temperature >= 0
        assert 0 < own.top_p <= 1
        assert 0 <= own.top_k <= source.vocab_size
        assert 1 <= own.min_tokens_to_keep <= source.vocab_size
        assert own.dynamic_temperature_range <= own.temperature
        for ids in (own.history, own.allowed_tokens, own.bias_ids):
            assert ids is None or (0 < len(ids) <= LIMITS.max_ids_per_list and ids.min() >= 0)
            assert ids is None or ids.max() < source.vocab_size
        assert own.token_bitmask is None or len(own.token_bitmask) <= 4 * -(-source.vocab_size // 32)


def decode(data: bytes, decoder: Decoder) -> SampleRequest | None:
    try:
        request = decoder.decode(decoder.parse(data))
    except SamplerdError as error:
        refusal = error
    else:
        check(request)
        return request
    assert refusal.code in {Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED}
    assert trailers_of(refusal, "")
    return None


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xa2\x06\x00")
def test_arbitrary_bytes_raise_nothing_but_our_errors(data):
    decode(data, BASIC)
    decode(data, FULL)


@given(requests, st.data())
def test_messages_with_wild_fields_raise_nothing_but_our_errors(request, data):
    encoded = bytearray(request.SerializeToString())
    decode(bytes(encoded), BASIC)
    decode(bytes(encoded), FULL)
    # And so with one byte changed.
    if encoded:
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at] = data.draw(st.integers(0, 255))
        decode(bytes(encoded), FULL)


@given(
    rows=st.integers(1, 4),
    vocab_size=st.integers(1, 9),
    num_samples=st.integers(0, 1000),
    seed=uint64,
    offset=st.integers(0, 2**64 - 1000),
    temperatures=st.lists(st.floats(0, 1e300), min_size=4, max_size=4),
    priority=st.integers(-100, 100),
    kind=st.integers(0, 2),
    number=uint64,
    filler=st.binary(min_size=144, max_size=144),
)
def test_a_valid_request_is_what_was_sent(
    rows, vocab_size, num_samples, seed, offset, temperatures, priority, kind, number, filler
):
    numbers = filler[: rows * vocab_size * 4]
    sent = pb.SampleRequest(
        id=number,
        num_samples=num_samples,
        seed=seed,
        draw_offset=offset,
        priority=priority,
        kind=kind,
        tensor=pb.Tensor(rows=rows, vocab_size=vocab_size, data=numbers),
        row_params=[pb.SamplingParams(temperature=t) for t in temperatures[:rows]],
    )
    got = decode(sent.SerializeToString(), BASIC)
    assert got is not None
    assert (got.id, got.num_samples, got.seed, got.draw_offset) == (number, num_samples or 1, seed, offset)
    assert (got.priority, got.kind, got.rows) == (priority, kind or 1, rows)
    assert bytes(got.source.data) == numbers
    # A temperature below 1e-260 draws as one of 1e-260 does; see docs/sampling.md.
    assert [own.temperature for own in got.params] == [t and max(t, 1e-260) for t in temperatures[:rows]]
    assert all(own.is_plain for own in got.params)
