"""The tensors of a request: where their numbers are, checked against their datatypes and shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.entity import entity
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.transport.oip.echo import shown, shown_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from samplerd.oip import grpc_service_pb2 as oip
    from samplerd_server.transport.oip.regions import AnyPlace, Regions

__all__ = ["Input", "place_of", "read_inputs", "value_of"]

_TYPES = {
    "BOOL": ("?", "bool_contents"),
    "INT8": ("<i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("<u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
    "FP16": ("<f2", ""),
    "BF16": ("<u2", ""),
    "FP32": ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
}
"""For each datatype, the numpy dtype of its raw contents, and the field of typed contents that may hold it."""
_SIZES = {datatype: np.dtype(code).itemsize for datatype, (code, _) in _TYPES.items()}
"""Bytes of one number."""
_PLACE = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_IGNORED = ("binary_data_size", "binary_data")
"""Parameters of a tensor that belong to HTTP, and that clients send over gRPC too, where they say nothing."""
_MAX_DIMENSIONS = 8
"""More than any input has. It bounds the product of the lengths, each of which may have 63 bits."""


@entity
class Input:
    """One tensor of a request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes
    """Its numbers, row-major and little-endian; empty where they are in shared memory."""
    place: AnyPlace | None = None
    """Where in shared memory its numbers are; None = they are in `data`."""

    def numbers(self) -> NDArray[np.generic]:
        """Give the numbers of a small tensor, flat.

        Raises:
            NotImplementedFieldError: they are in shared memory, which only rows may be.

        """
        if self.place is not None:
            raise NotImplementedFieldError(
                f"{self.name}.parameters.shared_memory_region", "only rows can be in shared memory"
            )
        if self.datatype == "BF16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        return np.frombuffer(self.data, _TYPES[self.datatype][0])


def read_inputs(request: oip.ModelInferRequest, regions: Regions) -> dict[str, Input]:
    """Find the numbers of every input.

    Raises:
        InvalidRequestError: a tensor contradicts its datatype or shape, or comes twice; raw contents are missing.
        NotFoundError: a region of shared memory is not registered.
        NotImplementedFieldError: shared memory is off.

    """
    inputs: dict[str, Input] = {}
    raw = list(request.raw_input_contents)
    used = 0
    for tensor in request.inputs:
        if tensor.name in inputs:
            raise InvalidRequestError(tensor.name, "the input comes twice")
        size = _size_of(tensor)
        place = place_of(tensor.parameters, tensor.name, regions)
        data = b""
        if place is None and raw:
            if used == len(raw):
                raise InvalidRequestError("raw_input_contents", f"{len(raw)} entries are fewer than the inputs")
            data, used = raw[used], used + 1
            if tensor.HasField("contents"):
                raise InvalidRequestError(f"{tensor.name}.contents", "the request has raw_input_contents")
        elif place is None:
            data = _typed(tensor)
        given = len(data) if place is None else place.byte_size
        if given != size:
            shape = " x ".join(map(str, tensor.shape))
            raise InvalidRequestError(tensor.name, f"{given} bytes, but {shape} of {tensor.datatype} are {size}")
        inputs[tensor.name] = Input(
            name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape), data=data, place=place
        )
    if used != len(raw):
        raise InvalidRequestError("raw_input_contents", f"{len(raw)} entries, but {used} inputs without shared memory")
    return inputs


def _size_of(tensor: oip.ModelInferRequest.InferInputTensor) -> int:
    if tensor.datatype not in _TYPES:
        raise InvalidRequestError(f"{tensor.name}.datatype", f"{shown(tensor.datatype)} is none of {', '.join(_TYPES)}")
    if len(tensor.shape) > _MAX_DIMENSIONS:
        raise InvalidRequestError(f"{tensor.name}.shape", f"has {len(tensor.shape)} dimensions")
    if tensor.shape and min(tensor.shape) < 1:
        raise InvalidRequestError(f"{tensor.name}.shape", f"{shown_shape(tensor.shape)} has a length below 1")
    return math.prod(tensor.shape) * _SIZES[tensor.datatype]


def _typed(tensor: oip.ModelInferRequest.InferInputTensor) -> bytes:
    """Convert typed contents to raw ones."""
    dtype, field = _TYPES[tensor.datatype]
    if not field:
        raise InvalidRequestError(f"{tensor.name}.contents", f"{tensor.datatype} must come in raw_input_contents")
    others = [descriptor.name for descriptor, _ in tensor.contents.ListFields() if descriptor.name != field]
    if others:
        raise InvalidRequestError(f"{tensor.name}.contents.{others[0]}", f"{tensor.datatype} belongs into {field}")
    values = np.array(getattr(tensor.contents, field))
    if np.dtype(dtype).kind in "iu" and values.size:
        bounds = np.iinfo(dtype)
        if values.min() < bounds.min or values.max() > bounds.max:
            raise InvalidRequestError(f"{tensor.name}.contents.{field}", f"a number is no {tensor.datatype}")
    return values.astype(dtype).tobytes()


def place_of(parameters: Mapping[str, oip.InferParameter], name: str, regions: Regions) -> AnyPlace | None:
    """Find where in shared memory a tensor lies; None if it is in the message.

    Raises:
        InvalidRequestError: a place that is not within its region, or parameters of a wrong kind.
        NotFoundError: the region is not registered.
        NotImplementedFieldError: an unknown parameter, or shared memory is off.

    """
    if not parameters:
        return None
    own = {key: value_of(parameters[key]) for key in parameters if key not in _IGNORED}
    if not own:
        return None
    unknown = [key for key in own if key not in _PLACE]
    if unknown:
        raise NotImplementedFieldError(f"{name}.parameters: {shown(unknown[0])}")
    path = f"{name}.parameters.shared_memory_region"
    region, size, offset = (own.get(key) for key in _PLACE)
    if not isinstance(region, str) or not isinstance(size, int):
        raise InvalidRequestError(path, "a region wants its name, a string, and shared_memory_byte_size, an integer")
    if offset is not None and not isinstance(offset, int):
        raise InvalidRequestError(f"{name}.parameters.shared_memory_offset", "must be an integer")
    return regions.place(region, offset or 0, size, path)


def value_of(parameter: oip.InferParameter) -> Any:
    """Give the value of a parameter of any kind; None if it has none."""
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
