"""What was checked of a message is known of the next that is like it, and of no other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config.workload import LimitsConfig
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.transport.codec import known_requests as module
from samplerd_server.transport.codec.compiled import compiled_scan
from samplerd_server.transport.codec.decode import Decoder

CAPABILITIES = frozenset(f"SamplingParams.{field.name}" for field in pb.SamplingParams.DESCRIPTOR.fields)


def new_decoder(*, is_compiled=True):
    scan = compiled_scan() if is_compiled else None
    return Decoder(limits=LimitsConfig(), capabilities=CAPABILITIES, scan=scan)


def message(**fields):
    rows = np.arange(8, dtype="<f4").tobytes()
    own = {
        "id": 1,
        "seed": 2,
        "params": pb.SamplingParams(temperature=0.5),
        "tensor": pb.Tensor(dtype=pb.DTYPE_F32, rows=2, vocab_size=4, data=rows),
        **fields,
    }
    return pb.SampleRequest(**own).SerializeToString()


def values(request):
    """Everything that a request says, but where its numbers lie."""
    own = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    source = own.pop("source")
    return own, source.dtype, source.rows, source.vocab_size, bytes(source.data)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"id": 77},
        {"seed": 99},
        {"params": None},
        {"params": pb.SamplingParams()},
        {"params": pb.SamplingParams(temperature=0.0)},
        {"params": pb.SamplingParams(temperature=0.5, top_k=2)},
        {"num_samples": 3},
        {"replacement": pb.REPLACEMENT_WITHOUT},
        {"kind": pb.INPUT_KIND_PROBABILITIES},
        {"priority": 5},
        {"draw_offset": 12},
        {"outputs": pb.Outputs(raw_samples=True)},
        {"tensor": pb.Tensor(dtype=pb.DTYPE_BF16, rows=2, vocab_size=8, data=bytes(32))},
        {"tensor": pb.Tensor(dtype=pb.DTYPE_F32, rows=1, vocab_size=8, data=bytes(range(32)))},
        {"tensor": pb.Tensor(dtype=pb.DTYPE_F32, rows=2, vocab_size=4, data=bytes(range(32)))},
    ],
    ids=lambda changed: "-".join(changed) or "the same",
)
def test_a_message_is_decoded_as_if_none_had_come_before(changed):
    decoder = new_decoder()
    first, second = message(), message(**changed)
    for data in (first, second, first, second):
        expected = new_decoder(is_compiled=False).decode_bytes(data)
        assert values(decoder.decode_bytes(data)) == values(expected)


def test_the_rows_lie_in_the_message_that_brings_them():
    decoder = new_decoder()
    decoder.decode_bytes(message())
    data = message(id=2)
    source = decoder.decode_bytes(data).source
    assert source.data.obj is data
    assert bytes(source.data) == data[-32:]


def test_a_wrong_number_of_bytes_is_refused_though_the_kind_is_known():
    decoder = new_decoder()
    decoder.decode_bytes(message())
    short = pb.Tensor(dtype=pb.DTYPE_F32, rows=2, vocab_size=4, data=bytes(28))
    with pytest.raises(InvalidRequestError, match=r"tensor\.data"):
        decoder.decode_bytes(message(tensor=short))


def test_requests_without_a_seed_have_seeds_of_their_own():
    decoder = new_decoder()
    seeds = {decoder.decode_bytes(message(seed=None)).seed for _ in range(8)}
    assert len(seeds) == 8


def test_few_and_small_kinds_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "_MAX_KNOWN", 4)
    decoder = new_decoder()
    for number in range(1, 8):
        decoder.decode_bytes(message(num_samples=number))
        assert 1 <= len(decoder.known) <= 4
    known = len(decoder.known)
    decoder.decode_bytes(message(params=pb.SamplingParams(allowed_tokens=[1] * 200)))
    decoder.decode_bytes(message(draw_offset=7))
    decoder.decode_bytes(message(outputs=pb.Outputs(raw_samples=True)))
    assert len(decoder.known) == known
