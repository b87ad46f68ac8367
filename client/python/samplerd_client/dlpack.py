"""Reading 16-bit tensors that numpy has no dtype for, through the C structure that DLPack defines.

numpy's own import refuses bfloat16. The structure is the same for every library (dmlc/dlpack, dlpack.h), so this reads
the bits of torch's, jax's or any other's bfloat16 tensors alike, without importing any of them. Rule 1: the capsule is
never consumed; it lives as long as the view, and its own destructor frees it.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bits16", "require_host"]

_HOST_DEVICES = {1, 3}
"""kDLCPU and kDLCUDAHost: memory that this process can read."""


class _Device(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class _View:
    """Memory as ``__array_interface__`` describes it, with the capsule that owns it."""

    def __init__(self, owner: object, interface: dict[str, Any]) -> None:
        self._owner = owner
        self.__array_interface__ = interface


def require_host(tensor: Any) -> None:
    """Raise TypeError when the tensor is in a device's memory."""
    device = tensor.__dlpack_device__()
    if int(device[0]) not in _HOST_DEVICES:
        raise TypeError("the tensor is not in host memory; copy it there first (in torch: tensor.cpu())")


def bits16(tensor: Any) -> NDArray[np.uint16]:
    """Return the 16-bit numbers of a tensor as their bits: a view, in the same shape and strides.

    Raises:
        TypeError: the tensor is in a device's memory, or its numbers do not have 16 bits.

    """
    require_host(tensor)
    capsule = tensor.__dlpack__()
    pointer = _capsule_pointer(capsule, b"dltensor")
    header = ctypes.cast(pointer, ctypes.POINTER(_Tensor)).contents
    if (header.dtype.bits, header.dtype.lanes) != (16, 1):
        raise TypeError(f"expected numbers of 16 bits, got {header.dtype.bits} x {header.dtype.lanes}")
    shape = tuple(header.shape[axis] for axis in range(header.ndim))
    if 0 in shape:
        return np.zeros(shape, dtype=np.uint16)
    strides = tuple(2 * header.strides[axis] for axis in range(header.ndim)) if header.strides else None
    address = header.data + header.byte_offset
    interface = {"version": 3, "typestr": "<u2", "shape": shape, "strides": strides, "data": (address, True)}
    return np.asarray(_View(capsule, interface))
