"""A draft whose tensors were found in place says what upb reads in it, whatever the order of its fields."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.codec.locate_tensor import locate_tensor, locate_tensors
from tests.fuzz.wire import LENGTH, field

WANTED = {99: "draft", 100: "target"}

tensors = st.builds(
    pb.Tensor,
    dtype=st.sampled_from([0, 1, 4]),
    rows=st.integers(0, 2**32 - 1),
    vocab_size=st.integers(0, 300),
    data=st.binary(max_size=300),
)
one_field = st.one_of(
    st.builds(pb.VerifyDraftRequest, target=tensors),
    st.builds(pb.VerifyDraftRequest, draft=tensors),
    st.builds(pb.VerifyDraftRequest, id=st.integers(0, 2**64 - 1)),
    st.builds(pb.VerifyDraftRequest, seed=st.integers(0, 2**64 - 1)),
    st.builds(pb.VerifyDraftRequest, draft_ids=st.lists(st.integers(-5, 2**31 - 1), max_size=40)),
    st.builds(pb.VerifyDraftRequest, row_params=st.lists(st.builds(pb.SamplingParams, temperature=st.just(2.0)))),
)
messages = st.lists(one_field, max_size=6).map(lambda fields: b"".join(field.SerializeToString() for field in fields))


def reassembled(data: bytes) -> pb.VerifyDraftRequest | None:
    """Put a message together from what was found in it; None = the search gave up."""
    located = locate_tensors(data, WANTED)
    if located is None:
        return None
    rest, tensors = located
    message = pb.VerifyDraftRequest.FromString(rest)
    assert not message.HasField("target")
    assert not message.HasField("draft")
    for number, own in tensors.items():
        tensor = getattr(message, WANTED[number])
        tensor.ParseFromString(own.shape)
        assert not tensor.data
        tensor.data = data[own.data_at : own.data_end]
    return message


@given(messages)
def test_what_was_found_is_what_upb_reads(data):
    message = reassembled(data)
    if message is not None:
        assert message == pb.VerifyDraftRequest.FromString(data)


@given(st.builds(pb.VerifyDraftRequest, target=tensors, draft=tensors, seed=st.integers(0, 2**64 - 1)))
def test_the_usual_message_is_found(message):
    message.target.data += b"1"
    message.draft.data += b"2"
    assert reassembled(message.SerializeToString()) == message


@given(messages, st.integers(0, 400), st.integers(0, 255))
@example(b"\xa2\x06\x02\x22", 0, 0xA2)
def test_damaged_bytes_are_left_to_upb_or_read_as_upb_reads_them(data, at, byte):
    damaged = data[:at] + bytes((byte,)) + data[at + 1 :]
    try:
        whole = pb.VerifyDraftRequest.FromString(damaged)
    except DecodeError:
        whole = None
    try:
        message = reassembled(damaged)
    except DecodeError:
        assert whole is None
        return
    assert message is None or whole is None or message == whole
    assert message is None or whole is not None


@pytest.mark.parametrize("padding", range(10))
def test_a_tag_or_a_length_is_as_long_as_upb_lets_it_be(padding):
    """One that is longer than five bytes is refused by upb, whatever it means."""
    tensor = field(4, LENGTH, b"1234", (0, padding))
    for message in (
        field(100, LENGTH, tensor),
        field(100, LENGTH, pb.Tensor(data=b"1234").SerializeToString(), (padding, 0)),
    ):
        try:
            whole = pb.VerifyDraftRequest.FromString(message)
        except DecodeError:
            assert locate_tensors(message, WANTED) is None
            assert locate_tensor(message, range(0)) is None
        else:
            assert reassembled(message) == whole


def test_more_fields_than_are_looked_at_are_left_to_upb():
    tensor = pb.VerifyDraftRequest(target=pb.Tensor(data=b"1")).SerializeToString()
    assert locate_tensors(b"\x08\x01" * 4000 + tensor, WANTED) is not None
    assert locate_tensors(b"\x08\x01" * 5000 + tensor, WANTED) is None
