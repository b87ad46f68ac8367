"""The compiled scan against upb: it agrees with it or gives up, and so do requests decoded with and without it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError, PermissionDeniedError
from samplerd_server.core.rows import DenseRows
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.transport.codec.decode import Decoder, _without_rows
from samplerd_server.transport.codec.plain_scan import plain_scan
from samplerd_server.transport.codec.scan import scan
from samplerd_server.transport.shared_memory.reader import SharedMemoryReader
from tests.fuzz.wire import LENGTH, field, varint

_U64 = st.integers(0, 2**64 - 1)

_I32 = st.integers(-(2**31), 2**31 - 1)
_U32 = st.integers(0, 2**32 - 1)

tensors = st.builds(pb.Tensor, dtype=st.integers(0, 4), rows=_U32, vocab_size=_U32, data=st.binary(max_size=300))

requests = st.builds(
    pb.SampleRequest,
    id=_U64,
    num_samples=_U32,
    seed=st.none() | _U64,
    row_seeds=st.just([]) | st.lists(_U64, max_size=4),
    replacement=_I32,
    kind=st.integers(0, 3),
    draw_offset=_U64,
    priority=_I32,
    params=st.none()
    | st.builds(
        pb.SamplingParams,
        temperature=st.none() | st.floats(),
        top_k=_U32,
        history=st.lists(st.integers(0, 2**31 - 1), max_size=5),
    ),
    row_params=st.just([]) | st.lists(st.builds(pb.SamplingParams, top_p=st.floats()), max_size=2),
    outputs=st.none() | st.builds(pb.Outputs, top_n=_U32, logprobs=st.lists(st.integers(0, 3), max_size=2)),
    guidance=st.none() | st.builds(pb.Guidance, tensor=tensors),
    tensor=tensors,
)

shared = st.none() | st.builds(
    pb.SharedMemory,
    key=st.text(max_size=20),
    offset=_U64,
    byte_size=_U64,
    dtype=st.integers(0, 4),
    rows=_U32,
    vocab_size=_U32,
)


def rebuild(data: bytes) -> pb.SampleRequest | None:
    """Put the message together again from what the scan told; None if it left it to upb."""
    found = scan(data)
    assert_found_without_compiler(data)
    if not found.is_done:
        return None
    request = pb.SampleRequest.FromString(_without_rows(data, found))
    assert request.WhichOneof("source") is None
    assert not request.HasField("guidance")
    if found.is_simple:
        simple = pb.SampleRequest(
            id=found.id,
            num_samples=found.num_samples,
            seed=found.seed if found.has_seed else None,
            replacement=found.replacement,
            kind=found.kind,
            draw_offset=found.draw_offset,
            priority=found.priority,
        )
        if found.params_at:
            simple.params.MergeFromString(data[found.params_at : found.params_end])
        if found.outputs_at:
            simple.outputs.MergeFromString(data[found.outputs_at : found.outputs_end])
        assert text(simple) == text(request)
    else:
        assert request.row_params or request.row_seeds or found.guidance_at
    if found.guidance_at:
        request.guidance.MergeFromString(data[found.guidance_at : found.guidance_end])
    if found.is_shared:
        request.shared_memory.MergeFromString(data[found.data_at : found.data_end])
        return request
    request.tensor.CopyFrom(
        pb.Tensor(
            dtype=found.dtype,
            rows=found.rows,
            vocab_size=found.vocab_size,
            data=data[found.data_at : found.data_end],
        )
    )
    return request


def assert_found_without_compiler(data: bytes) -> None:
    """The scan in Python finds what the compiled one finds."""
    compiled, plain = scan(data), plain_scan(data)
    assert plain.is_done == compiled.is_done
    assert not plain.is_done or plain == compiled


def text(request: pb.SampleRequest) -> bytes:
    return request.SerializeToString(deterministic=True)


@given(requests, shared)
def test_what_encoders_write_is_found(request: pb.SampleRequest, memory: pb.SharedMemory | None) -> None:
    if memory is not None:
        request.shared_memory.CopyFrom(memory)  # and the tensor is gone
    data = request.SerializeToString()
    if request.tensor.data or memory is not None:
        rebuilt = rebuild(data)
        assert rebuilt is not None
        assert text(rebuilt) == text(request)
    else:
        assert not scan(data).is_done


@given(requests, st.data())
def test_fields_in_any_order_are_found_or_left_to_upb(request: pb.SampleRequest, data: st.DataObject) -> None:
    """Two encodings one after the other are one message to upb: the last scalar wins, tensors merge."""
    parts = [
        pb.SampleRequest(tensor=request.tensor).SerializeToString(),
        pb.SampleRequest(id=request.id, seed=request.seed).SerializeToString(),
        pb.SampleRequest(params=request.params).SerializeToString(),
        pb.SampleRequest(outputs=request.outputs, priority=request.priority).SerializeToString(),
        pb.SampleRequest(row_params=request.row_params, row_seeds=request.row_seeds).SerializeToString(),
        pb.SampleRequest(values=pb.Values(row=[pb.Values.Row(values=[1.0])])).SerializeToString(),
        pb.SampleRequest(guidance=request.guidance).SerializeToString(),
        pb.SampleRequest(shared_memory=pb.SharedMemory(key="a", rows=3)).SerializeToString(),
    ]
    order = data.draw(st.lists(st.integers(0, len(parts) - 1), max_size=8))
    message = b"".join(parts[at] for at in order)

    rebuilt = rebuild(message)

    if rebuilt is not None:
        expected = pb.SampleRequest.FromString(message)
        assert text(rebuilt) == text(expected)


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
        assert text(rebuilt) == text(expected)


@pytest.mark.parametrize("padding", range(10))
def test_a_tag_or_a_length_is_as_long_as_upb_lets_it_be(padding: int) -> None:
    """One that is longer than five bytes is refused by upb, whatever it means."""
    tensor = field(4, LENGTH, bytes(4), (0, padding)) + varint(3 << 3) + b"\1"
    for message in (
        field(100, LENGTH, tensor),
        field(100, LENGTH, pb.Tensor(vocab_size=1, data=bytes(4)).SerializeToString(), (padding, 0)),
        varint(1 << 3, padding) + b"\1" + pb.SampleRequest(tensor=pb.Tensor(data=bytes(4))).SerializeToString(),
    ):
        try:
            expected = pb.SampleRequest.FromString(message)
        except DecodeError:
            assert not scan(message).is_done
        else:
            rebuilt = rebuild(message)
            assert rebuilt is not None
            assert text(rebuilt) == text(expected)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    assert_found_without_compiler(data)


LIMITS = LimitsConfig()
SCANNING = Decoder(limits=LIMITS, capabilities=NumbaSampler(1).capabilities, scan=scan)
PARSING = Decoder(limits=LIMITS, capabilities=NumbaSampler(1).capabilities)


def decoded(decoder: Decoder, data: bytes) -> object:
    """The request, or the field in error; a seed that the server drew counts as none."""
    try:
        request = decoder.decode_bytes(data)
    except InvalidRequestError as error:
        return error.field
    source, guidance = request.source, request.guidance
    assert isinstance(source, DenseRows)
    has_seed = pb.SampleRequest.FromString(data).HasField("seed")
    bare = dataclasses.replace(request, source=None, guidance=None, row_seeds=None, params=())
    return (
        dataclasses.replace(bare, seed=request.seed if has_seed else 0),
        repr(request.params),
        repr(request.row_seeds),
        [(rows.dtype, rows.rows, rows.vocab_size, bytes(rows.data)) for rows in (source, guidance) if rows],
    )


@given(requests, st.integers(1, 4), st.integers(1, 8), st.data())
def test_a_request_decodes_to_the_same_with_and_without_the_scan(
    request: pb.SampleRequest, rows: int, vocab_size: int, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        request.tensor.CopyFrom(pb.Tensor(rows=rows, vocab_size=vocab_size, data=bytes(4 * rows * vocab_size)))
    if data.draw(st.booleans()):
        request.replacement, request.priority, request.num_samples = 1, 3, 2
        request.draw_offset %= 2**63
    if data.draw(st.booleans()):
        request.ClearField("row_params")
        request.params.Clear()
        request.params.guidance_scale = data.draw(st.sampled_from([1.0, 2.0]))
        dtype = data.draw(st.sampled_from([pb.DTYPE_F32, pb.DTYPE_F64, pb.DTYPE_BF16]))
        size = {pb.DTYPE_F32: 4, pb.DTYPE_F64: 8, pb.DTYPE_BF16: 2}[dtype]
        own = pb.Tensor(dtype=dtype, rows=rows, vocab_size=vocab_size, data=bytes(size * rows * vocab_size))
        request.guidance.tensor.CopyFrom(own)
    message = request.SerializeToString()
    once, again = decoded(SCANNING, message), decoded(SCANNING, message)
    assert once == again == decoded(PARSING, message), "what is remembered means what was said"


@given(requests, shared.filter(bool), st.data())
def test_shared_memory_decodes_to_the_same_with_and_without_the_scan(
    request: pb.SampleRequest, memory: pb.SharedMemory, data: st.DataObject
) -> None:
    regions = SharedMemoryReader("ok-", max_bytes=1 << 20, metrics=Metrics())
    both = [dataclasses.replace(decoder, regions=regions) for decoder in (SCANNING, PARSING)]
    if data.draw(st.booleans()):
        memory = pb.SharedMemory(key="ok-a", offset=memory.offset, byte_size=24, rows=2, vocab_size=3)
    if data.draw(st.booleans()):
        request.replacement, request.priority, request.num_samples = 1, 3, 2
        request.draw_offset %= 2**63
    request.shared_memory.CopyFrom(memory)
    message = request.SerializeToString()
    first, second = (shared_or_error(decoder, message) for decoder in both)
    assert first == second
    off = [shared_or_error(decoder, message) for decoder in (SCANNING, PARSING)]
    assert off == ["shared_memory: is off"] * 2


def shared_or_error(decoder: Decoder, data: bytes) -> object:
    """The request but for what its memory holds, which nothing has been copied into; or the error."""
    try:
        request = decoder.decode_bytes(data)
    except NotImplementedFieldError as error:
        return f"{error.name}: is off"
    except (InvalidRequestError, PermissionDeniedError) as error:
        return type(error), str(error)
    source = request.source
    assert isinstance(source, DenseRows)
    assert request.load is not None
    has_seed = pb.SampleRequest.FromString(data).HasField("seed")
    seed = request.seed if has_seed else 0
    return (
        dataclasses.replace(request, source=None, row_seeds=None, params=(), seed=seed, load=None),
        repr(request.params),
        repr(request.row_seeds),
        (source.dtype, source.rows, source.vocab_size, len(source.data)),
    )


def test_rows_are_named_by_where_they_lie() -> None:
    data = pb.SampleRequest(
        tensor=pb.Tensor(vocab_size=4, data=np.arange(4, dtype="<f4").tobytes())
    ).SerializeToString()
    source = SCANNING.decode_bytes(data).source
    assert isinstance(source, DenseRows)
    assert source.address == np.frombuffer(source.data, np.uint8).__array_interface__["data"][0]


def test_guidance_rows_are_named_by_where_they_lie() -> None:
    tensors = [pb.Tensor(vocab_size=4, data=np.arange(begin, begin + 4, dtype="<f4").tobytes()) for begin in (0, 9)]
    params = pb.SamplingParams(guidance_scale=2.0)
    message = pb.SampleRequest(params=params, guidance=pb.Guidance(tensor=tensors[1]), tensor=tensors[0])
    # In the order of the fields' numbers, and with the guidance rows last.
    head, tail = pb.SampleRequest(params=params, tensor=tensors[0]), pb.SampleRequest(guidance=message.guidance)
    for data in (message.SerializeToString(), head.SerializeToString() + tail.SerializeToString()):
        request = SCANNING.decode_bytes(data)
        for rows, first in ((request.source, 0), (request.guidance, 9)):
            assert isinstance(rows, DenseRows)
            assert isinstance(rows.data, memoryview)
            assert rows.data.obj is data, "no copy"
            assert np.frombuffer(rows.data, "<f4")[0] == first
            assert rows.address == np.frombuffer(rows.data, np.uint8).__array_interface__["data"][0]


def test_what_is_remembered_is_bounded() -> None:
    decoder = Decoder(limits=LIMITS, capabilities=NumbaSampler(1).capabilities, scan=scan)
    for number in range(3000):
        data = pb.SampleRequest(
            params=pb.SamplingParams(temperature=1.0 + number), tensor=pb.Tensor(vocab_size=1, data=bytes(4))
        )
        assert decoder.decode_bytes(data.SerializeToString()).params[0].temperature == 1.0 + number
    assert len(decoder._params_cache) <= 1024
