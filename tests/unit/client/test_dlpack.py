"""Tensors of any library, through nothing but `__dlpack__` and `__dlpack_device__`."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import as_rows
from samplerd_client.dlpack import _header, numbers

ROWS = np.array([[1.0, -2.5, 3.25], [0.0, -np.inf, 0.5]], dtype=np.float32)


class Bare:
    """A tensor of a library that promises what DLPack asks for, and nothing else."""

    def __init__(self, tensor: Any, *, knows_versions: bool = True) -> None:
        self._tensor = tensor
        self._knows_versions = knows_versions

    def __dlpack__(self, **options: Any) -> Any:
        if options and not self._knows_versions:
            raise TypeError("__dlpack__() takes no keyword arguments")
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def header_of(tensor: Any, **changed: int) -> Any:
    """A tensor whose structure says something else of its numbers than is true."""

    class Changed(Bare):
        def __dlpack__(self, **options: Any) -> Any:
            capsule = super().__dlpack__(**options)
            header = _header(capsule)
            for name, value in changed.items():
                setattr(header.device if name == "device_type" else header.dtype, name, value)
            return capsule

    return Changed(tensor)


@pytest.mark.parametrize("knows_versions", [True, False])
@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (torch.tensor(ROWS), pb.DTYPE_F32),
        (torch.tensor(ROWS).double(), pb.DTYPE_F64),
        (torch.tensor(ROWS).half(), pb.DTYPE_F16),
        (torch.tensor(ROWS).bfloat16(), pb.DTYPE_BF16),
        (torch.tensor(ROWS.T.copy()).bfloat16().T, pb.DTYPE_BF16),
        (torch.tensor(np.repeat(ROWS, 2, axis=1))[:, ::2], pb.DTYPE_F32),
        (ROWS, pb.DTYPE_F32),
        (ROWS[::-1][::-1], pb.DTYPE_F32),
    ],
)
def test_a_class_with_only_the_two_methods(tensor: Any, dtype: int, knows_versions: bool) -> None:
    rows = as_rows(Bare(tensor, knows_versions=knows_versions))
    assert (rows.dtype, rows.rows, rows.vocab_size) == (dtype, 2, 3)
    assert as_rows(Bare(tensor), "f32").data.tobytes() == ROWS.tobytes()


def test_both_kinds_of_capsule_are_read() -> None:
    tensor = torch.tensor(ROWS)
    old, new = tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0))
    assert "dltensor_versioned" in repr(new)
    assert "dltensor_versioned" not in repr(old)
    for capsule in (old, new):
        header = _header(capsule)
        assert header.data == tensor.data_ptr()
        assert header.shape[: header.ndim] == [2, 3]


def test_arrays_that_must_not_be_written_to_are_read() -> None:
    array = ROWS.copy()
    array.flags.writeable = False
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":  # which exports none
        with pytest.raises(TypeError, match="readonly"):
            as_rows(Bare(array))
    else:
        assert as_rows(Bare(array)).data.tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"])
def test_integers_and_booleans_become_float32(dtype: str) -> None:
    rows = as_rows(Bare(np.array([[0, 1], [1, 1]], dtype=dtype)))
    assert rows.dtype == pb.DTYPE_F32
    assert np.frombuffer(rows.data, "<f4").tolist() == [0.0, 1.0, 1.0, 1.0]


def test_the_view_holds_the_memory_and_lets_it_go() -> None:
    array = np.full((1, 1000), 1.5, dtype=np.float32)
    alive = weakref.ref(array)
    rows = as_rows(Bare(array))
    del array
    gc.collect()
    assert alive() is not None
    assert np.frombuffer(rows.data, "<f4").sum() == 1500.0
    del rows
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (torch.zeros(2, dtype=torch.complex64), "complex of 64 bits"),
        (torch.zeros(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(2).to(torch.float8_e5m2), "float8_e5m2"),
        (torch.zeros(2, 2).to_sparse(), "Tensor cannot be read through DLPack"),
        (torch.zeros(2, device="meta"), "Tensor cannot be read through DLPack"),
        (Bare(torch.zeros(2, requires_grad=True)), "Bare cannot be read through DLPack"),
        (header_of(torch.zeros(2), lanes=2), "in groups of 2"),
        (header_of(torch.zeros(2), code=99), "DLPack's type 99"),
        (header_of(torch.zeros(2), bits=24), "float of 24 bits"),
        (header_of(torch.zeros(2), device_type=2), "not in host memory"),
    ],
)
def test_what_is_not_taken_raises_type_error(tensor: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        as_rows(tensor)


def test_memory_of_a_device_is_never_asked_for() -> None:
    class OnDevice(Bare):
        def __dlpack__(self, **options: Any) -> Any:
            raise AssertionError("asked")

        def __dlpack_device__(self) -> Any:
            return 2, 0

    with pytest.raises(TypeError, match="not in host memory"):
        as_rows(OnDevice(torch.zeros(2)))


def test_what_is_no_capsule() -> None:
    class Wrong(Bare):
        def __dlpack__(self, **options: Any) -> Any:
            return b"dltensor"

    with pytest.raises(TypeError, match="expected __dlpack__ to return"):
        as_rows(Wrong(torch.zeros(2)))


def test_a_newer_version_of_the_structure_is_refused() -> None:
    capsule = torch.zeros(2).__dlpack__(max_version=(1, 0))
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    major = ctypes.c_uint32.from_address(get(capsule, b"dltensor_versioned"))
    real, major.value = major.value, 2
    try:
        with pytest.raises(TypeError, match="expected DLPack of version 1"):
            _header(capsule)
    finally:
        major.value = real


def test_a_tensor_that_torch_negates_later_keeps_its_sign() -> None:
    later = torch.complex(torch.zeros(3), torch.tensor([1.0, 2.0, -3.0])).conj().imag
    assert later.is_neg()
    assert np.frombuffer(as_rows(later).data, "<f4").tolist() == [-1.0, -2.0, 3.0]


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.int4])
def test_narrow_numbers_of_ml_dtypes(dtype: Any) -> None:
    with pytest.raises(TypeError, match="real numbers"):
        as_rows(ROWS.astype(dtype))


def test_bfloat16_of_ml_dtypes() -> None:
    rows = as_rows(ROWS.astype(ml_dtypes.bfloat16))
    assert rows.dtype == pb.DTYPE_BF16
    assert rows.data.tobytes() == as_rows(torch.tensor(ROWS).bfloat16()).data.tobytes()


def test_scalars_are_no_rows() -> None:
    assert numbers(Bare(torch.tensor(1.5))).array.shape == ()
    with pytest.raises(ValueError, match="0 dimensions"):
        as_rows(Bare(torch.tensor(1.5)))
