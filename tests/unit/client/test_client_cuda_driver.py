"""What the client asks CUDA's driver, over doubles of cuda-bindings and of the driver's library."""

from __future__ import annotations

import ctypes
import sys

import pytest

from samplerd_client import cuda_driver
from samplerd_client.cuda_driver import BindingsDriver, CudaMemoryError, LibraryDriver, load_driver
from tests.support.cuda_driver import CudaDriver, Result


class Library:
    """The double of libcuda.so.1: the functions of cuda.h that are called, with their own arguments."""

    def __init__(self, driver: CudaDriver) -> None:
        self._driver = driver

    def cuMemGetAddressRange_v2(self, begin, size, address) -> int:  # noqa: N802
        assert isinstance(address, ctypes.c_uint64)
        error, *place = self._driver.cuMemGetAddressRange(address.value)
        if not error:
            begin._obj.value, size._obj.value = place
        return int(error)

    def cuIpcGetMemHandle(self, into, begin) -> int:  # noqa: N802
        assert isinstance(begin, ctypes.c_uint64)
        error, handle = self._driver.cuIpcGetMemHandle(begin.value)
        if not error:
            ctypes.memmove(into, handle.getPtr(), ctypes.sizeof(into))
        return int(error)

    def cuGetErrorName(self, error, name) -> int:  # noqa: N802
        name._obj.value = Result(error.value).name.encode() if error.value != 999 else None
        return 0


@pytest.fixture
def double():
    return CudaDriver()


@pytest.fixture(params=["bindings", "library"])
def driver(request, double):
    return BindingsDriver(double) if request.param == "bindings" else LibraryDriver(Library(double))


def test_an_allocation_and_its_handle(double, driver) -> None:
    _, begin = double.cuMemAlloc(4096)
    assert driver.allocation(begin + 100) == (begin, 4096)
    handle = driver.handle(begin)
    assert len(handle) == cuda_driver.HANDLE_BYTES
    assert double._exports.by_handle[handle] == (double, begin, 4096)


def test_memory_that_cannot_be_shared_is_refused_with_what_to_do(double, driver) -> None:
    _, begin = double.cuMemAlloc(4096)
    double.failures["cuIpcGetMemHandle"] = Result.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(CudaMemoryError, match=r"CUDA_ERROR_INVALID_VALUE.*expandable_segments:False.*\.cpu\(\)"):
        driver.handle(begin)
    with pytest.raises(CudaMemoryError, match="CUDA_ERROR_NOT_FOUND"):
        driver.allocation(begin - 1)


@pytest.fixture
def unloaded():
    load_driver.cache_clear()
    yield
    load_driver.cache_clear()


def test_the_bindings_come_first_and_then_the_library(unloaded, monkeypatch) -> None:
    assert isinstance(load_driver(), BindingsDriver)
    load_driver.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    opened: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or object())
    assert isinstance(load_driver(), LibraryDriver)
    assert opened == ["libcuda.so.1"]


def test_where_neither_is_it_says_what_to_install(unloaded, monkeypatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(ctypes, "CDLL", fail)
    with pytest.raises(CudaMemoryError, match=r"libcuda.so.1: cannot open.*pip install cuda-bindings.*\.cpu\(\)"):
        load_driver()


def test_the_functions_of_the_bindings_are_there() -> None:
    real = load_driver()
    assert isinstance(real, BindingsDriver)
    assert real._driver.cuMemGetAddressRange
    assert real._driver.cuIpcGetMemHandle
    assert real._driver.CUresult.CUDA_SUCCESS == 0
    assert real._driver.CUresult.CUDA_ERROR_INVALID_VALUE != 0
    assert hasattr(real._driver.CUipcMemHandle(), "getPtr")
