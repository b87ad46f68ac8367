"""What the client asks CUDA's driver about device memory of this process: where an allocation lies, and its handle.

By cuda-bindings where they are installed, else by the driver's own library through ctypes. Rule 1: the device of the
memory is current on the calling thread, as `device_rows` sees to. Rule 2: whatever the driver refuses is a
`CudaMemoryError` that says what to do. State: no card has run it yet; it is tested over doubles of both.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NoReturn, Protocol

__all__ = ["HANDLE_BYTES", "BindingsDriver", "CudaDriver", "CudaMemoryError", "LibraryDriver", "load_driver"]

HANDLE_BYTES = 64
"""Bytes of a handle: CU_IPC_HANDLE_SIZE of cuda.h."""

_LIBRARY = "libcuda.so.1"
_NO_HANDLE = (
    "it is memory of an expandable segment or of a pool, which no other process can open. Start the program "
    "with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False, without backend:cudaMallocAsync, or send the tensor by "
    ".cpu()"
)


class CudaMemoryError(RuntimeError):
    """Expected: memory of a CUDA device cannot be shared with the server; send the tensor by ``.cpu()``."""


class CudaDriver(Protocol):
    """The two questions; tests have a double of this."""

    def allocation(self, address: int) -> tuple[int, int]:
        """Return the first address and the size in bytes of the allocation that an address lies in.

        Raises:
            CudaMemoryError: the driver does not tell.

        """
        ...

    def handle(self, begin: int) -> bytes:
        """Return the handle, HANDLE_BYTES long, by which other processes open the allocation that begins here.

        Raises:
            CudaMemoryError: the driver gives none.

        """
        ...


class BindingsDriver:
    """The driver by cuda-bindings.

    Source: CUDA Driver API, Memory Management: cuMemGetAddressRange, cuIpcGetMemHandle.
    """

    def __init__(self, driver: Any) -> None:
        """Take the module `cuda.bindings.driver`."""
        self._driver = driver

    def allocation(self, address: int) -> tuple[int, int]:
        """As `CudaDriver.allocation`."""
        error, begin, size = self._driver.cuMemGetAddressRange(address)
        if error != 0:
            _refuse_allocation(error.name)
        return int(begin), int(size)

    def handle(self, begin: int) -> bytes:
        """As `CudaDriver.handle`."""
        error, handle = self._driver.cuIpcGetMemHandle(begin)
        if error != 0:
            _refuse_handle(error.name)
        return ctypes.string_at(handle.getPtr(), HANDLE_BYTES)


class LibraryDriver:
    """The driver by its own library; sources as of `BindingsDriver`."""

    def __init__(self, library: Any) -> None:
        """Take the library, a `ctypes.CDLL`."""
        self._library = library

    def allocation(self, address: int) -> tuple[int, int]:
        """As `CudaDriver.allocation`."""
        begin, size = ctypes.c_uint64(), ctypes.c_size_t()
        error = self._library.cuMemGetAddressRange_v2(ctypes.byref(begin), ctypes.byref(size), ctypes.c_uint64(address))
        if error != 0:
            _refuse_allocation(self._name(error))
        return begin.value, size.value

    def handle(self, begin: int) -> bytes:
        """As `CudaDriver.handle`."""
        own = ctypes.create_string_buffer(HANDLE_BYTES)
        error = self._library.cuIpcGetMemHandle(own, ctypes.c_uint64(begin))
        if error != 0:
            _refuse_handle(self._name(error))
        return own.raw

    def _name(self, error: int) -> str:
        name = ctypes.c_char_p()
        self._library.cuGetErrorName(ctypes.c_int(error), ctypes.byref(name))
        return name.value.decode() if name.value else f"CUDA error {error}"


@functools.cache
def load_driver() -> CudaDriver:
    """Load the driver, once for the process.

    Raises:
        CudaMemoryError: there is none.

    """
    try:
        # An optional dependency, which most clients do not have.
        from cuda.bindings import driver  # noqa: PLC0415
    except ImportError:
        pass
    else:
        return BindingsDriver(driver)
    try:
        return LibraryDriver(ctypes.CDLL(_LIBRARY))
    except OSError as error:
        raise CudaMemoryError(
            f"CUDA's driver is not found ({error}), so memory of the device cannot be shared: install cuda-bindings "
            f"(pip install cuda-bindings) and NVIDIA's driver, which brings {_LIBRARY}, or send the tensor by .cpu()"
        ) from error


def _refuse_allocation(name: str) -> NoReturn:
    raise CudaMemoryError(f"the driver does not tell which allocation the tensor lies in ({name}): {_NO_HANDLE}")


def _refuse_handle(name: str) -> NoReturn:
    raise CudaMemoryError(f"the driver gives no handle of the tensor's memory ({name}): {_NO_HANDLE}")
