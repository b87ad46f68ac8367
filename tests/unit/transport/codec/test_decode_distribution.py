"""Decoding of uploads: what is malformed is refused with the path of its field, the first fault first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf import duration_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError, SamplerdError
from samplerd_server.core.params import SamplingParams
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_distribution import NewDistribution, decode_new
from tests.support.requests import tensor

SMALL, LARGE = 4, 5000
"""Numbers in a row; the tensor of a large one is found without parsing it."""
BASIC = Decoder(
    limits=LimitsConfig(max_rows=8, max_vocab_size=10_000), capabilities=frozenset({"SamplingParams.top_k"})
)


def good(vocab_size: int) -> pb.CreateDistributionRequest:
    """Three rows."""
    return pb.CreateDistributionRequest(name="words", tensor=tensor(np.zeros((3, vocab_size))))


def decoded(message: pb.CreateDistributionRequest, decoder: Decoder = BASIC) -> NewDistribution:
    return decode_new(message.SerializeToString(), decoder, now=100.0, default_ttl_s=math.inf)


def _set(path: str, value: object) -> Callable[[pb.CreateDistributionRequest], object]:
    *parents, name = path.split(".")

    def change(message: pb.CreateDistributionRequest) -> None:
        target = message
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, name, value)

    return change


# In the order in which they are looked at.
FAULTS = [
    (_set("name", "a b"), "name: must be 1 to 128 of A-Z a-z 0-9 . _ -"),
    (lambda message: message.ttl.CopyFrom(duration_pb2.Duration(seconds=-1)), "ttl: must be more than 0"),
    (_set("tensor.dtype", 99), "tensor.dtype: 99 is not a known Dtype"),
    (_set("tensor.vocab_size", 20_000), "tensor.vocab_size: 20000 is more than the limit of 10000"),
    (_set("tensor.rows", 9), "tensor.rows: 9 rows are more than the limit of 8"),
    (_set("tensor.data", bytes(20_001)), "tensor.data: 20001 bytes, but "),
    (_set("params.temperature", -1.0), "params.temperature: "),
    (_set("kind", 7), "kind: 7 is not a known InputKind"),
]


@pytest.mark.parametrize("vocab_size", [SMALL, LARGE])
@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_the_first_fault_is_named_and_hides_the_later(first, vocab_size):
    for later in range(first, len(FAULTS)):
        message = good(vocab_size)
        FAULTS[later][0](message)
        FAULTS[first][0](message)
        with pytest.raises(InvalidRequestError) as caught:
            decoded(message, replace(BASIC, limits=replace(BASIC.limits, max_samples=2)))
        assert caught.value.message.startswith(FAULTS[first][1])


@pytest.mark.parametrize("vocab_size", [SMALL, LARGE])
def test_rows_are_bounded_as_those_of_a_request_for_one_sample_each(vocab_size):
    decoder = replace(BASIC, limits=replace(BASIC.limits, max_samples=2))
    with pytest.raises(InvalidRequestError) as caught:
        decoded(good(vocab_size), decoder)
    assert caught.value.message == "num_samples: 3 rows x 1 samples are more than the limit of 2"


@pytest.mark.parametrize("vocab_size", [SMALL, LARGE])
def test_a_parameter_that_the_sampler_lacks_is_named(vocab_size):
    message = good(vocab_size)
    message.params.min_p = 0.1
    with pytest.raises(NotImplementedFieldError) as caught:
        decoded(message)
    assert caught.value.name == "params.min_p"


@pytest.mark.parametrize("length", [3, 30_000])
def test_what_is_no_message_is_refused(length):
    with pytest.raises(InvalidRequestError) as caught:
        decode_new(b"\xff" * length, BASIC, now=0.0, default_ttl_s=1.0)
    assert caught.value.message == "request: not a CreateDistributionRequest"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "source: no rows were sent; one of tensor, values, shared_memory, cuda_shared_memory is needed"),
        ("values", "values.row: no rows were sent"),
        ("shared_memory", "shared_memory is off on this server"),
    ],
)
def test_rows_that_are_missing_or_cannot_be_had(source, message):
    asked = good(SMALL)
    asked.ClearField("tensor")
    if source:
        getattr(asked, source).SetInParent()
    with pytest.raises(SamplerdError) as caught:
        decoded(asked)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("vocab_size", [SMALL, LARGE])
def test_everything_is_what_was_sent(vocab_size):
    message = good(vocab_size)
    message.kind = pb.INPUT_KIND_PROBABILITIES
    message.params.CopyFrom(pb.SamplingParams(temperature=0.0, top_k=2))
    message.ttl.FromSeconds(30)
    made = decoded(message)
    request, description = made.request, made.description
    assert made.field == "tensor.data"
    assert (description.name, description.kind, description.dtype) == ("words", InputKind.PROBABILITIES, Dtype.F32)
    assert (description.rows, description.vocab_size, description.ttl_s, description.created) == (
        (3, vocab_size, 30.0, 100.0)
    )
    assert description.params == message.params.SerializeToString()
    assert (request.id, request.seed, request.row_seeds, request.num_samples, request.draw_offset) == (0, 0, None, 1, 0)
    assert (request.with_replacement, request.priority, request.load) == (True, 0, None)
    assert request.kind is InputKind.PROBABILITIES
    assert request.params == (SamplingParams(temperature=0.0, top_k=2, is_plain=False),)
    assert (request.greedy_rows, request.rows) == (3, 3)
    assert bytes(request.source.data) == message.tensor.data


def test_defaults():
    message = good(SMALL)
    message.ClearField("name")
    one, other = decoded(message), decoded(message)
    assert one.description.name != other.description.name
    assert (one.description.ttl_s, one.description.params) == (math.inf, None)
    assert (one.request.params, one.request.kind) == ((SamplingParams(),), InputKind.LOGITS)
