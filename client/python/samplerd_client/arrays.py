"""Turns numpy arrays, lists, buffers and tensors of other libraries into rows of raw bytes.

Rule 1: no other library is imported; a tensor is met through DLPack, the buffer protocol or ``__array__``. Rule 2: rows
that are already contiguous, little-endian and of a dtype of the contract are not copied here at all.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import dlpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NUMPY_DTYPES",
    "ArrayLike",
    "Rows",
    "SupportsDlpack",
    "as_rows",
    "bfloat16_bits",
    "dtype_number",
    "readable",
]


class SupportsDlpack(Protocol):
    """An array of any library that speaks DLPack (torch, JAX, TensorFlow, pyarrow, onnxruntime, ...)."""

    def __dlpack__(self) -> Any:
        """Return a capsule over the array's memory."""

    def __dlpack_device__(self) -> tuple[Any, Any]:
        """Return the type and number of the device that holds the memory."""


ArrayLike: TypeAlias = "np.typing.ArrayLike | SupportsDlpack"
"""What `sample` takes: 1-D = one row, 2-D = rows; numpy arrays, lists, buffers, tensors in host memory, and torch's
on a CUDA device too (`device_rows`).

Whatever has ``__dlpack__`` is a tensor: torch's, JAX's, TensorFlow's, pyarrow's arrays, onnxruntime's OrtValue, ...
"""


class Rows(NamedTuple):
    """Rows of V numbers each, ready to be sent."""

    dtype: pb.Dtype.ValueType
    rows: int
    vocab_size: int
    data: memoryview
    """rows x vocab_size numbers, little-endian, row-major, as bytes."""


_NAMES = {
    "f32": pb.DTYPE_F32,
    "float32": pb.DTYPE_F32,
    "f16": pb.DTYPE_F16,
    "float16": pb.DTYPE_F16,
    "bf16": pb.DTYPE_BF16,
    "bfloat16": pb.DTYPE_BF16,
    "f64": pb.DTYPE_F64,
    "float64": pb.DTYPE_F64,
}

_NATIVE = {np.dtype(np.float32): pb.DTYPE_F32, np.dtype(np.float16): pb.DTYPE_F16, np.dtype(np.float64): pb.DTYPE_F64}
_IS_LITTLE = sys.byteorder == "little"

NUMPY_DTYPES: dict[pb.Dtype.ValueType, np.dtype[Any]] = {
    pb.DTYPE_F32: np.dtype("<f4"),
    pb.DTYPE_F16: np.dtype("<f2"),
    pb.DTYPE_BF16: np.dtype("<u2"),
    pb.DTYPE_F64: np.dtype("<f8"),
}
"""The numpy dtype of each of the contract's; bfloat16 as its bits."""


def dtype_number(name: str) -> pb.Dtype.ValueType:
    """Return the dtype of this name: "f32", "f16", "bf16", "f64", or the long form.

    Raises:
        ValueError: there is none.

    """
    if name not in _NAMES:
        raise ValueError(f"dtype must be one of f32, f16, bf16, f64; got {name!r}")
    return _NAMES[name]


def as_rows(values: ArrayLike, dtype: str | None = None) -> Rows:
    """Return rows of bytes.

    Args:
        values: [V] or [B, V]. Integers, booleans and lists become float32; floats of 2, 4 and 8 bytes and bfloat16
            stay as they are. A list may hold rows of any kind that is taken by itself.
        dtype: convert to "f32", "f16", "bf16" or "f64" first; None leaves the numbers as they are.

    Raises:
        TypeError: there are no real numbers in it, or they are not in host memory.
        ValueError: not 1-D or 2-D, nothing in it, masked numbers, an unknown dtype, or a finite number that the dtype
            cannot hold.

    """
    if dtype is None and _IS_LITTLE and type(values) is np.ndarray and values.ndim == 1 and values.flags.c_contiguous:
        native = _NATIVE.get(values.dtype)
        if native is not None and values.size:  # most calls: nothing to look at, nothing to convert
            return Rows(native, 1, values.size, values.data.cast("B"))
    array, have = _as_array(values)
    if array.ndim == 1:
        array = array.reshape(1, -1)
    if array.ndim != 2:
        raise ValueError(f"expected one row [V] or rows [B, V], got an array of {array.ndim} dimensions")
    if array.size == 0:
        raise ValueError(f"expected at least one row of at least one number, got shape {array.shape}")
    kind = dtype_number(dtype) if dtype is not None else have or pb.DTYPE_F32
    array = np.ascontiguousarray(_convert(array, have, kind), dtype=NUMPY_DTYPES[kind])
    rows, vocab_size = array.shape
    return Rows(dtype=kind, rows=rows, vocab_size=vocab_size, data=array.data.cast("B"))


def _as_array(values: ArrayLike) -> tuple[NDArray[Any], pb.Dtype.ValueType | None]:
    """Return the numbers (bfloat16 as their bits) and their dtype in the contract; None for lists and integers."""
    if type(values) is np.ndarray and (kind := _NATIVE.get(values.dtype)) is not None:
        return values, kind  # the usual case, without a detour
    if isinstance(values, (str, bytes, bytearray)):
        raise TypeError(f"expected an array of numbers, got {type(values).__name__}; see numpy.frombuffer")
    if isinstance(values, (list, tuple)):
        rows = values if not values or isinstance(values[0], (int, float)) else list(map(readable, values))
        try:
            return np.asarray(rows, dtype=np.float64), None
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected rows of numbers, all of the same length: {error}") from error
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        array, is_bfloat16 = dlpack.numbers(_resolved(values))
        if is_bfloat16:
            return array, pb.DTYPE_BF16
    else:
        array = np.asarray(readable(values))
    if array.dtype.name == "bfloat16":  # of a library that teaches numpy the dtype
        return array.view(np.uint16), pb.DTYPE_BF16
    native = array.dtype.newbyteorder("=")
    if native in _NATIVE:
        return array, _NATIVE[native]
    if array.dtype.kind in "biu":
        return array, None
    raise TypeError(f"expected real numbers of at most 8 bytes, got dtype {array.dtype}")


def _resolved(tensor: Any) -> Any:
    """Return the tensor without what torch leaves undone.

    It exports no tensor that wants a gradient, and one that is yet to be negated with the opposite sign.
    """
    for name in ("detach", "resolve_neg"):
        resolve = getattr(tensor, name, None)
        tensor = resolve() if callable(resolve) else tensor
    return tensor


def readable(values: Any) -> Any:
    """Return what numpy reads as it is meant: bfloat16 as float32, and nothing that is masked.

    Raises:
        TypeError: the numbers are not taken, or not in host memory.
        ValueError: some are masked; numpy would read what lies below the mask.

    """
    if isinstance(values, np.ndarray):
        if type(values) is not np.ndarray and np.ma.is_masked(values):  # the import of numpy.ma takes 12 ms
            raise ValueError(
                "some numbers are masked; fill them first: logits with -inf, weights with 0 (.filled(-inf))"
            )
        return values
    if not hasattr(values, "__dlpack__"):
        return values
    array, kind = _as_array(values)
    return _widened(array) if kind == pb.DTYPE_BF16 else array


def _widened(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return bfloat16 numbers, given as their bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _convert(array: NDArray[Any], have: pb.Dtype.ValueType | None, want: pb.Dtype.ValueType) -> NDArray[Any]:
    if have == want:
        return array
    if have == pb.DTYPE_BF16:
        array = _widened(array)
    with np.errstate(over="ignore", invalid="ignore"):
        if want == pb.DTYPE_BF16:
            single = array.astype(np.float32)
            converted: NDArray[Any] = bfloat16_bits(single)
            infinite = (converted & 0x7FFF) == 0x7F80
        else:
            converted = array.astype(NUMPY_DTYPES[want])
            infinite = np.isinf(converted)
    if np.any(infinite & np.isfinite(array)):
        raise ValueError(f"a number is too large for {pb.Dtype.Name(want)}; clip the row or send it as it is")
    return converted


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bfloat16 nearest to each number (ties to even; NaN stays NaN), as bits, in the same shape."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 0x40
    result: NDArray[np.uint16] = np.where(np.isnan(values), quiet, rounded).astype(np.uint16)
    return result
