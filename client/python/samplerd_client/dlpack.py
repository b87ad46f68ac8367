"""Reading tensors of any library through the C structure that DLPack defines (dmlc/dlpack, dlpack.h).

numpy's own import refuses bfloat16. The structure is the same for every library, so this reads pyarrow's, torch's or
any other's tensors alike, without importing one of them. Rule 1: what the numbers are is said by the structure alone.
Rule 2: the capsule is never consumed; it lives as long as the view, and its own destructor frees it. Rule 3: whatever
is not taken raises TypeError.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Numbers", "numbers"]

_HOST_DEVICES = {1, 3}
"""kDLCPU and kDLCUDAHost: memory that this process can read."""
_MOST_VERSION = (1, 0)
"""The newest version of the structure that is read here."""
_BFLOAT = 4
_TYPES = {
    **{(0, bits): f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(1, bits): f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"<f{bits // 8}" for bits in (16, 32, 64)},
    (_BFLOAT, 16): "<u2",
    (6, 8): "|b1",
}
"""numpy's name of each type that is taken, by DLPack's code and width in bits."""
_NAMES = {
    0: "int",
    1: "uint",
    2: "float",
    3: "opaque",
    _BFLOAT: "bfloat",
    5: "complex",
    6: "bool",
    7: "float8_e3m4",
    8: "float8_e4m3",
    9: "float8_e4m3b11fnuz",
    10: "float8_e4m3fn",
    11: "float8_e4m3fnuz",
    12: "float8_e5m2",
    13: "float8_e5m2fnuz",
    14: "float8_e8m0fnu",
}
"""What DLPack's codes mean, for messages."""


class Numbers(NamedTuple):
    """The numbers of a tensor."""

    array: NDArray[Any]
    """A view of the tensor's own memory, which must not be written to, in the same shape and strides."""
    is_bfloat16: bool
    """The array holds the bits of bfloat16 numbers, as uint16."""


class _Device(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    """DLTensor. A capsule named dltensor points to a DLManagedTensor, which begins with one."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned: what a capsule named dltensor_versioned points to."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_is_capsule = ctypes.pythonapi.PyCapsule_IsValid
_is_capsule.restype = ctypes.c_int
_is_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class _View:
    """Memory as ``__array_interface__`` describes it, with the capsule that owns it."""

    def __init__(self, owner: object, interface: dict[str, Any]) -> None:
        self._owner = owner
        self.__array_interface__ = interface


def numbers(tensor: Any) -> Numbers:
    """Return the numbers of a tensor that has ``__dlpack__``: floats, bfloat16, integers or booleans, in host memory.

    Raises:
        TypeError: the tensor is in a device's memory, holds other numbers, or its library cannot export it.

    """
    try:
        device = tensor.__dlpack_device__()[0] if hasattr(tensor, "__dlpack_device__") else None
        capsule = None if device is not None and int(device) not in _HOST_DEVICES else _export(tensor)
    except (MemoryError, TypeError):
        raise
    except Exception as error:  # libraries raise errors of their own classes
        raise TypeError(f"{type(tensor).__name__} cannot be read through DLPack: {error}") from error
    if capsule is None:
        raise _elsewhere()
    header = _header(capsule)
    if header.device.device_type not in _HOST_DEVICES:
        raise _elsewhere()
    code, bits = header.dtype.code, header.dtype.bits
    typestr = _TYPES.get((code, bits))
    if typestr is None or header.dtype.lanes != 1:
        raise TypeError(f"expected floats of 2 to 8 bytes, bfloat16, integers or booleans, got {_name(header.dtype)}")
    return Numbers(_view(capsule, header, typestr), code == _BFLOAT)


def _name(dtype: _DataType) -> str:
    kind = _NAMES.get(dtype.code, f"DLPack's type {dtype.code}")
    lanes = "" if dtype.lanes == 1 else f" in groups of {dtype.lanes}"
    return f"{kind} of {dtype.bits} bits{lanes}"


def _export(tensor: Any) -> object:
    """Ask for a capsule of the newest version; a library that knows of no versions is asked as it expects."""
    try:
        return tensor.__dlpack__(max_version=_MOST_VERSION)
    except TypeError:
        return tensor.__dlpack__()


def _elsewhere() -> TypeError:
    return TypeError("the tensor is not in host memory; copy it there first (in torch: tensor.cpu())")


def _header(capsule: object) -> _Tensor:
    if _is_capsule(capsule, b"dltensor"):
        return _Tensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    if not _is_capsule(capsule, b"dltensor_versioned"):
        raise TypeError(f"expected __dlpack__ to return an unused capsule of DLPack, got {capsule!r}")
    managed = _Versioned.from_address(_capsule_pointer(capsule, b"dltensor_versioned"))
    if managed.major != _MOST_VERSION[0]:
        raise TypeError(f"expected DLPack of version {_MOST_VERSION[0]}, got {managed.major}.{managed.minor}")
    tensor: _Tensor = managed.tensor
    return tensor


def _view(capsule: object, header: _Tensor, typestr: str) -> NDArray[Any]:
    shape = tuple(header.shape[: header.ndim])
    dtype = np.dtype(typestr)
    if 0 in shape:
        return np.zeros(shape, dtype=dtype)
    strides = tuple(dtype.itemsize * step for step in header.strides[: header.ndim]) if header.strides else None
    address = header.data + header.byte_offset
    interface = {"version": 3, "typestr": typestr, "shape": shape, "strides": strides, "data": (address, True)}
    return np.asarray(_View(capsule, interface))
