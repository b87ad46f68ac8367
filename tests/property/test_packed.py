"""Lists that are appended to a message are what protobuf reads there, whoever writes the varints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.codec import packed
from samplerd_server.transport.codec.packed import little_endian, nested, packed_floats, packed_ints

integers = st.lists(
    st.integers(-(2**31), 2**31 - 1) | st.integers(0, 300) | st.sampled_from([2**7, 2**14, 2**21, 2**28]).map(int)
)
floats = st.lists(st.floats(width=32))
FIELDS = {field.name: field.number for field in pb.SampleResponse.DESCRIPTOR.fields}


@pytest.fixture(params=["compiled", "numpy"], scope="module")
def _writer(request: pytest.FixtureRequest) -> object:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(packed, "compiled_varints", lambda: None)
        yield


@pytest.mark.usefixtures("_writer")
@given(integers)
@example([])
@example([-1, 0, 127, 128, 16383, 16384, 2**31 - 1, -(2**31)])
def test_whole_numbers(values):
    data = b"".join(packed_ints(FIELDS["samples"], np.array(values, np.int32)))
    assert data == pb.SampleResponse(samples=values).SerializeToString()


@given(floats)
def test_floats(values):
    data = b"".join(packed_floats(FIELDS["kept_mass"], np.array(values, np.float32)))
    assert data == pb.SampleResponse(kept_mass=values).SerializeToString()


@given(integers)
def test_numbers_as_bytes(values):
    numbers = np.array(values, np.int32)
    data = b"".join(little_endian(FIELDS["raw_samples"], numbers))
    assert data == pb.SampleResponse(raw_samples=numbers.astype("<i4").tobytes()).SerializeToString()


@given(st.binary(max_size=300), floats)
def test_a_message_in_a_message(first, values):
    nats = packed_floats(pb.Entropies.DESCRIPTOR.fields_by_name["nats"].number, np.array(values, np.float32))
    data = b"".join(nested(FIELDS["entropies"], [pb.Entropies(kind=2).SerializeToString(), *nats]))
    assert data == pb.SampleResponse(entropies=[pb.Entropies(kind=2, nats=values)]).SerializeToString()
    assert b"".join(nested(FIELDS["raw_samples"], [first])) in {
        pb.SampleResponse(raw_samples=first).SerializeToString(),
        b"\x1a\0",  # an empty message is a field; empty bytes are none
    }


def test_numbers_that_do_not_lie_side_by_side():
    values = np.arange(-10, 10, dtype=np.int32)[::3]
    data = b"".join(packed_ints(FIELDS["samples"], values))
    assert list(pb.SampleResponse.FromString(data).samples) == values.tolist()
