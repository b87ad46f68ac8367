"""The scan by hand against upb: it agrees with it or gives up."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.scan import locate

_U64 = st.integers(0, 2**64 - 1)

requests = st.builds(
    lambda id_, num_samples, seed, row_seeds, temperature, dtype, rows, vocab_size, data, ids: pb.SampleRequest(
        id=id_,
        num_samples=num_samples,
        seed=seed,
        row_seeds=row_seeds,
        params=pb.SamplingParams(temperature=temperature, history=ids),
        tensor=pb.Tensor(dtype=dtype, rows=rows, vocab_size=vocab_size, data=data),
    ),
    id_=_U64,
    num_samples=st.integers(0, 2**32 - 1),
    seed=_U64,
    row_seeds=st.lists(_U64, max_size=4),
    temperature=st.floats(),
    dtype=st.integers(0, 4),
    rows=st.integers(0, 2**32 - 1),
    vocab_size=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=300),
    ids=st.lists(st.integers(0, 2**31 - 1), max_size=5),
)


def rebuild(data: bytes) -> pb.SampleRequest | None:
    located = locate(data)
    if located is None:
        return None
    request = pb.SampleRequest.FromString(located.rest)
    assert request.WhichOneof("source") is None
    tensor = pb.Tensor.FromString(located.shape)
    assert tensor.data == b""
    tensor.data = bytes(located.data)
    request.tensor.CopyFrom(tensor)
    return request


@given(requests)
def test_what_encoders_write_is_found(request: pb.SampleRequest) -> None:
    data = request.SerializeToString()
    if request.tensor.data:
        rebuilt = rebuild(data)
        assert rebuilt is not None
        assert rebuilt.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    else:
        assert locate(data) is None


@given(requests, st.data())
def test_fields_in_any_order_are_found_or_left_to_upb(request: pb.SampleRequest, data: st.DataObject) -> None:
    """Two encodings one after the other are one message to upb: the last scalar wins, tensors merge."""
    parts = [
        pb.SampleRequest(tensor=request.tensor).SerializeToString(),
        pb.SampleRequest(id=request.id, seed=request.seed).SerializeToString(),
        pb.SampleRequest(params=request.params).SerializeToString(),
        pb.SampleRequest(values=pb.Values(row=[pb.Values.Row(values=[1.0])])).SerializeToString(),
    ]
    order = data.draw(st.lists(st.integers(0, 3), max_size=6))
    message = b"".join(parts[at] for at in order)

    rebuilt = rebuild(message)

    if rebuilt is not None:
        expected = pb.SampleRequest.FromString(message)
        assert rebuilt.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@given(requests, st.data())
def test_a_damaged_message_is_read_as_upb_reads_it_or_left_to_it(
    request: pb.SampleRequest, data: st.DataObject
) -> None:
    message = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))

    try:
        rebuilt = rebuild(bytes(message))
    except DecodeError:
        with pytest.raises(DecodeError):  # parts are refused only of what upb refuses as a whole
            pb.SampleRequest.FromString(bytes(message))
        return
    if rebuilt is not None:
        expected = pb.SampleRequest.FromString(bytes(message))
        assert rebuilt.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    locate(data)
