"""Encoded messages of a contract, whole and broken, as strategies of hypothesis.

They are put together field by field, so that most are nearly right: fields twice, in any order, unknown, of a wrong
wire type, numbers and lengths longer than they need be, groups, parts that end early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, FieldDescriptor

VARINT, FIXED64, LENGTH, START, END, FIXED32 = range(6)
_NUMBERS = (0, 1, 2, 3, 4, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
_WIDTHS = {1: 4, 2: 2, 3: 2, 4: 8}
_DEPTH = 3


def varint(value: int, padding: int = 0) -> bytes:
    """Write a number; with padding, as so many bytes more than it needs."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def field(number: int, wire_type: int, content: bytes, padding: tuple[int, int] = (0, 0)) -> bytes:
    """Write a field; `padding` of its tag and of its length."""
    length = varint(len(content), padding[1]) if wire_type == LENGTH else b""
    return varint(number << 3 | wire_type, padding[0]) + length + content


_PADDING = st.sampled_from([(0, 0)] * 12 + [(1, 0), (0, 1), (4, 0), (0, 4), (5, 5), (9, 0), (0, 9)])
_NUMBER = st.sampled_from(_NUMBERS) | st.integers(0, 2**64 - 1)
_PADS = st.sampled_from([0] * 8 + [1, 4, 8, 9])


@st.composite
def _tensor(draw: Callable[..., Any], _descriptor: Descriptor, _depth: int) -> bytes:
    """Rows whose bytes are as many as their shape says, in any order of fields."""
    dtype, rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    data = draw(st.binary(min_size=rows * width * _WIDTHS[dtype], max_size=rows * width * _WIDTHS[dtype]))
    parts = [field(4, LENGTH, data, draw(_PADDING))]
    parts += [
        varint(number << 3, draw(_PADS)) + varint(value, draw(_PADS))
        for number, value in ((1, dtype), (2, rows), (3, width))
    ]
    return b"".join(draw(st.permutations(parts)))


@st.composite
def messages(draw: Callable[..., Any], descriptor: Descriptor, depth: int = 0) -> bytes:
    """Encodings of a message, most of them nearly right."""
    if descriptor is pb.Tensor.DESCRIPTOR and draw(st.integers(0, 4)):
        return draw(_tensor(descriptor, depth))
    parts = [
        draw(_field(draw(st.sampled_from(list(descriptor.fields))), depth)) for _ in range(draw(st.integers(0, 6)))
    ]
    if depth == 0:
        named = [own for own in descriptor.fields if own.name in {"tensor", "target", "model_name"}]
        parts += [draw(_field(own, depth)) for own in named if draw(st.integers(0, 4))]
    if not draw(st.integers(0, 9)):
        unknown = draw(st.sampled_from([0, 98, 1000, 2**29 - 1]))
        parts.append(field(unknown, LENGTH, b"ab"))
    if not draw(st.integers(0, 19)):
        parts.append(varint(50 << 3 | START) + varint(50 << 3 | END))
    return b"".join(draw(st.permutations(parts)))


@st.composite
def _field(draw: Callable[..., Any], own: FieldDescriptor, depth: int) -> bytes:
    padding, kind = draw(_PADDING), own.cpp_type
    if not draw(st.integers(0, 19)):  # of another wire type
        wire_type = draw(st.sampled_from([VARINT, FIXED64, LENGTH, FIXED32]))
        content = {VARINT: b"\x01", FIXED64: bytes(8), LENGTH: b"ab", FIXED32: bytes(4)}[wire_type]
        return field(own.number, wire_type, content, padding)
    if kind == own.CPPTYPE_MESSAGE:
        content = draw(messages(own.message_type, depth + 1)) if depth < _DEPTH else b""
        return field(own.number, LENGTH, content, padding)
    if kind == own.CPPTYPE_STRING:
        text = st.text("abc-/.é", max_size=8).map(str.encode)
        return field(own.number, LENGTH, draw(text | st.binary(max_size=16)), padding)
    scalar = _scalar(own)
    if own.is_repeated and draw(st.booleans()):
        return field(own.number, LENGTH, b"".join(draw(st.lists(scalar, max_size=4))), padding)
    return varint(own.number << 3 | _wire_type(own), padding[0]) + draw(scalar)


def _wire_type(own: FieldDescriptor) -> int:
    return {own.CPPTYPE_DOUBLE: FIXED64, own.CPPTYPE_FLOAT: FIXED32}.get(own.cpp_type, VARINT)


def _scalar(own: FieldDescriptor) -> st.SearchStrategy[bytes]:
    sizes = {FIXED64: 8, FIXED32: 4}
    if (size := sizes.get(_wire_type(own))) is not None:
        usual = pb.SamplingParams(temperature=0.5).SerializeToString()[-8:] if size == 8 else bytes(4)
        return st.just(usual) | st.binary(min_size=size, max_size=size)
    return st.tuples(st.integers(0, 3) | _NUMBER, _PADS).map(lambda pair: varint(*pair))


@st.composite
def damaged(draw: Callable[..., Any], whole: st.SearchStrategy[bytes]) -> bytes:
    """Messages, some of them cut short or with changed bytes."""
    data = bytearray(draw(whole))
    how = draw(st.integers(0, 5))
    if how == 0:
        del data[draw(st.integers(0, len(data))) :]
    elif how == 1 and data:
        for _ in range(draw(st.integers(1, 3))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)
