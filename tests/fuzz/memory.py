"""Shared memory: rows that lie within a region are drawn from as if they had been sent; others are refused."""

from __future__ import annotations

import atexit
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from tests.fuzz.inference import _grpc as infer_call
from tests.fuzz.inference import _read_grpc as read_inference
from tests.fuzz.served import Call, server
from tests.fuzz.web import _of_grpc, _post, frame
from tests.support.regions import FOLDER, PREFIX, Region

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 4096
_ITEM = {1: 4, 2: 2, 3: 2, 4: 8}
_DATATYPES = {1: "FP32", 2: "FP16", 3: "BF16", 4: "FP64"}
_REFUSED = {"invalid_argument", "not_found", "permission_denied"}


class Reference(NamedTuple):
    """What a request names; `whole` is the part of the region that is registered for the Open Inference Protocol."""

    key: str
    offset: int
    byte_size: int
    dtype: int
    rows: int
    vocab_size: int
    whole: tuple[int, int]


@cache
def _region() -> tuple[str, bytes]:
    """A region of this process, and what is in it: every pattern of bits, NaN and infinity among them."""
    content = np.random.default_rng(3).bytes(SIZE)
    region = Region(content).__enter__()
    atexit.register(region.__exit__)
    return region.key, content


@st.composite
def _reference(draw: Callable[..., Any]) -> Reference:
    dtype, rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 64))
    needed = rows * width * _ITEM[dtype]
    near = st.sampled_from([-1, 0, 0, 0, 1])
    offset = draw(st.integers(0, SIZE) | st.just(max(0, SIZE - needed + draw(near))) | st.just(2**64 - needed))
    keys = ["own"] * 8 + [
        "/own",
        "//own",
        "missing",
        "",
        ".",
        "..",
        "own/",
        "own\0",
        "a" * 256,
        "é",
        "../own",
        "foreign",
    ]
    whole = draw(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE + 8)) | st.just((0, SIZE)))
    byte_size = needed if draw(st.integers(0, 5)) else draw(st.sampled_from([0, needed + 1, needed - 1, 2**64 - 1]))
    return Reference(draw(st.sampled_from(keys)), offset, byte_size, dtype, rows, width, whole)


references = _reference()


def _key_of(asked: Reference, own: str) -> str:
    return {"missing": f"{PREFIX}missing", "foreign": "foreign"}.get(asked.key, asked.key.replace("own", own))


def _lies_within(asked: Reference, begin: int, end: int) -> bool:
    """Whether the rows are as long as they say, and at bytes [begin, end) of a region that there is."""
    needed = asked.rows * asked.vocab_size * _ITEM[asked.dtype]
    has_key = asked.key in {"own", "/own"}
    return has_key and asked.byte_size == needed and begin <= asked.offset and asked.offset + needed <= end


def _sample(**source: Any) -> Call:
    message = pb.SampleRequest(seed=3, num_samples=4, **source)
    return _post("application/grpc", frame(message.SerializeToString()))


def same_rows(asked: Reference) -> None:
    """The rows by their place in memory, and the same bytes in the message."""
    own, content = _region()
    shape = {"dtype": asked.dtype, "rows": asked.rows, "vocab_size": asked.vocab_size}
    place = {"key": _key_of(asked, own), "offset": asked.offset, "byte_size": asked.byte_size}
    got = _of_grpc(server().answer(_sample(shared_memory=pb.SharedMemory(**shape, **place))))
    if not _lies_within(asked, 0, SIZE):
        assert got.code in _REFUSED, got
        return
    data = content[asked.offset : asked.offset + asked.byte_size]
    assert got == _of_grpc(server().answer(_sample(tensor=pb.Tensor(**shape, data=data))))
    assert (FOLDER / own).stat().st_size == SIZE


def _inference(asked: Reference, data: bytes | None) -> bytes:
    message = oip.ModelInferRequest(model_name="sampler")
    message.parameters["seed"].int64_param = 3
    tensor = message.inputs.add(name="logits", datatype=_DATATYPES[asked.dtype], shape=[asked.rows, asked.vocab_size])
    if data is not None:
        message.raw_input_contents.append(data)
        return message.SerializeToString()
    tensor.parameters["shared_memory_region"].string_param = "region"
    for name, value in (("byte_size", asked.byte_size), ("offset", asked.offset)):
        setattr(tensor.parameters[f"shared_memory_{name}"], "int64_param" if value < 2**63 else "uint64_param", value)
    return message.SerializeToString()


def same_registered_rows(asked: Reference) -> None:
    """Rows in a region that is registered whole or in part, named by where they lie in that part."""
    own, content = _region()
    begin, size = asked.whole
    registered = oip.SystemSharedMemoryRegisterRequest(
        name="region", key=_key_of(asked, own), offset=begin, byte_size=size
    )
    call = infer_call(registered.SerializeToString())._replace(
        path="/inference.GRPCInferenceService/SystemSharedMemoryRegister"
    )
    server().answer(call)
    got = read_inference(server().answer(infer_call(_inference(asked, None))))
    server().answer(call._replace(path=call.path.replace("Register", "Unregister"), body=frame(b"")))
    inside = asked._replace(offset=asked.offset + begin)
    if not size or asked.byte_size > size - asked.offset or not _lies_within(inside, begin, SIZE):
        assert got.status in {400, 403, 404}, got
        return
    data = content[inside.offset : inside.offset + asked.byte_size]
    assert got == read_inference(server().answer(infer_call(_inference(asked, data))))
