"""Which requests are joined: those that are alike, small, and checked before."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.transport.codec.compiled import compiled_scan
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.joint_requests import JointRequest, join_requests


def message(number: int, vocab_size: int = 8, rows: int = 1, **fields) -> bytes:
    data = np.zeros((rows, vocab_size), "<f4").tobytes()
    tensor = pb.Tensor(dtype=pb.DTYPE_F32, rows=rows, vocab_size=vocab_size, data=data)
    return pb.SampleRequest(id=number, tensor=tensor, **fields).SerializeToString()


def joined(*messages: bytes, most: int = 8, is_compiled: bool = True) -> list[list[int] | int]:
    """The ids of what is joined, in lists, and of what is not, after all have been checked once."""
    decoder = Decoder(limits=LimitsConfig(), capabilities=frozenset(), scan=compiled_scan() if is_compiled else None)
    for own in messages:
        decoder.decode_bytes(own)
    return [
        part.ids if isinstance(part, JointRequest) else pb.SampleRequest.FromString(part).id
        for part in join_requests(decoder, messages, most)
    ]


def test_neighbours_that_are_alike_are_joined():
    assert joined(message(1), message(2, seed=5), message(3)) == [[1, 2, 3]]
    assert joined(message(1), message(2), message(3, 9), message(4, 9), message(5)) == [[1, 2], [3, 4], 5]
    assert joined(*(message(number) for number in range(1, 6)), most=2) == [[1, 2], [3, 4], 5]


@pytest.mark.parametrize(
    "fields",
    [
        {"rows": 2},
        {"vocab_size": 1 << 12},
        {"num_samples": 17},
        {"replacement": pb.REPLACEMENT_WITHOUT},
        {"draw_offset": 1},
        {"outputs": pb.Outputs(raw_samples=True)},
        {"row_seeds": [3]},
    ],
    ids=str,
)
def test_others_stay_alone(fields):
    assert joined(message(1, **fields), message(2, **fields)) == [1, 2]


def test_without_the_compiled_scan_none_is_joined():
    assert joined(message(1), message(2), is_compiled=False) == [1, 2]


def test_a_joint_request_is_not_so_dear_that_it_would_be_cut_into_slices():
    dear = pb.SamplingParams(temperature=0.9, top_p=0.9)
    messages = [message(number, 4000, params=dear) for number in range(200)]
    decoder = Decoder(limits=LimitsConfig(), capabilities=frozenset({"SamplingParams.top_p"}), scan=compiled_scan())
    price = decoder.decode_bytes(messages[0]).work
    parts = list(join_requests(decoder, messages, 1000))
    assert len(parts) > 1
    assert all(1e6 - price < part.request.work <= 1e6 for part in parts[:-1])


def test_requests_without_a_seed_have_seeds_of_their_own():
    decoder = Decoder(limits=LimitsConfig(), capabilities=frozenset(), scan=compiled_scan())
    decoder.decode_bytes(message(1))
    (joint,) = join_requests(decoder, [message(2), message(3), message(4, seed=9)], 8)
    assert isinstance(joint, JointRequest)
    assert joint.request.row_seeds.tolist() == joint.seeds
    assert len(set(joint.seeds)) == 3
    assert joint.seeds[2] == 9
