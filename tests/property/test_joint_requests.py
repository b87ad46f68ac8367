"""Requests that are joined are answered as each would be alone, in the order in which they came."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.pack import pack, unpack
from samplerd_server.config import LimitsConfig
from samplerd_server.core.result import Timing
from samplerd_server.transport.codec.compiled import compiled_scan
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.encode import encode
from samplerd_server.transport.codec.joint_requests import JointRequest, encode_joint, join_requests
from tests.support.samplers import make_sampler

CAPABILITIES = frozenset(f"SamplingParams.{field.name}" for field in pb.SamplingParams.DESCRIPTOR.fields)
TIMING = Timing(0.25, 0.5, 3)
SAMPLER = make_sampler("numba")
PARAMS = [None, pb.SamplingParams(temperature=0.0), pb.SamplingParams(temperature=0.7, top_k=3, repetition_penalty=1.5)]


@st.composite
def messages(draw) -> bytes:
    """A request of one of a few kinds, most of which can be joined."""
    rows = draw(st.sampled_from([1, 1, 1, 2]))
    vocab_size = draw(st.sampled_from([5, 5, 5, 9]))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 3, (rows, vocab_size)).astype("<f4")
    if not draw(st.integers(0, 5)):
        numbers[0, 2] = np.nan
    data = numbers.tobytes()[: -1 if not draw(st.integers(0, 12)) else None]
    message = pb.SampleRequest(
        id=draw(st.integers(0, 3) | st.integers(0, 2**64 - 1)),
        params=draw(st.sampled_from(PARAMS)),
        num_samples=draw(st.sampled_from([0, 1, 3, 40])),
        seed=draw(st.integers(0, 2**64 - 1)),
        replacement=draw(st.sampled_from([0, 0, 2])),
        tensor=pb.Tensor(dtype=pb.DTYPE_F32, rows=rows, vocab_size=vocab_size, data=data),
    )
    if not draw(st.integers(0, 9)):
        message.draw_offset = 7
    if not draw(st.integers(0, 9)):
        message.outputs.rank = True
    return message.SerializeToString()


def answer(request):
    (result,) = unpack([request], SAMPLER.sample(pack([request])), [TIMING])
    return result


def decode(decoder, message):
    try:
        return decoder.decode_bytes(message)
    except Exception as error:  # noqa: BLE001  # compared
        return repr(error)


@given(
    st.lists(st.lists(messages(), min_size=1, max_size=3).flatmap(lambda few: st.lists(st.sampled_from(few)))),
    st.integers(2, 6),
)
def test_joined_requests_are_answered_as_each_alone(parts, most):
    decoder = Decoder(limits=LimitsConfig(), capabilities=CAPABILITIES, scan=compiled_scan())
    came = [message for part in parts for message in part]
    assert list(join_requests(decoder, came, most)) == came, "requests of a kind that nothing has checked are joined"
    alone = [decode(decoder, message) for message in came]
    given_back: list[bytes] = []
    for part in join_requests(decoder, came, most):
        if not isinstance(part, JointRequest):
            given_back.append(part)
            continue
        assert 2 <= len(part.ids) == len(part.seeds) == part.request.rows <= most
        expected = alone[len(given_back) : len(given_back) + len(part.ids)]
        given_back += part.messages
        assert part.request.work == sum(own.work for own in expected)
        assert part.request.greedy_rows == sum(own.greedy_rows for own in expected)
        assert part.request.size_bytes == sum(own.size_bytes for own in expected)
        assert {own.priority for own in expected} == {part.request.priority}
        assert encode_joint(part, answer(part.request)) == [encode(own, answer(own)) for own in expected]
    assert given_back == came
