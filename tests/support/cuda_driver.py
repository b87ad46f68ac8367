"""A double of `cuda.bindings.driver`: it records calls in order, reads what launches are given, and fails when told to.

Memory of the device is memory of the host here, and is never looked at. Functions take as many arguments as the real
ones (`SIGNATURES`), which a test holds against the real ones where they are installed.
"""

from __future__ import annotations

import ctypes
import enum
import re
from types import SimpleNamespace
from typing import Any

import numpy as np

SIGNATURES = {
    "cuInit": 1,
    "cuCtxSetCurrent": 1,
    "cuDeviceGet": 1,
    "cuDeviceGetAttribute": 2,
    "cuDeviceGetCount": 0,
    "cuDeviceGetName": 2,
    "cuDeviceGetUuid": 1,
    "cuDevicePrimaryCtxRelease": 1,
    "cuDevicePrimaryCtxRetain": 1,
    "cuDeviceTotalMem": 1,
    "cuEventCreate": 1,
    "cuEventDestroy": 1,
    "cuEventRecord": 2,
    "cuEventSynchronize": 1,
    "cuFuncSetAttribute": 3,
    "cuIpcCloseMemHandle": 1,
    "cuIpcGetMemHandle": 1,
    "cuIpcOpenMemHandle": 2,
    "cuLaunchKernel": 11,
    "cuMemAlloc": 1,
    "cuMemFree": 1,
    "cuMemFreeHost": 1,
    "cuMemGetAddressRange": 1,
    "cuMemHostAlloc": 2,
    "cuMemcpyDtoDAsync": 4,
    "cuMemcpyDtoHAsync": 4,
    "cuMemcpyHtoDAsync": 4,
    "cuModuleGetFunction": 2,
    "cuModuleLoadData": 1,
    "cuModuleUnload": 1,
    "cuStreamCreate": 1,
    "cuStreamDestroy": 1,
    "cuStreamWaitEvent": 3,
}
"""How many arguments each function takes."""


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_MAP_FAILED = 205
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701


class MemHandle:
    """The double of `CUipcMemHandle`, whose bytes lie where `getPtr` says."""

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(64)

    def getPtr(self) -> int:  # noqa: N802  # the name that the bindings give it
        return ctypes.addressof(self._bytes)

    @property
    def content(self) -> bytes:
        return self._bytes.raw


class Exports:
    """What the processes that share a device have exported: each is a `CudaDriver`."""

    def __init__(self) -> None:
        self.by_handle: dict[bytes, tuple[CudaDriver, int, int]] = {}
        """The owner, the address and the size of memory, by the bytes of its handle."""


class CudaDriver:
    """The double of a machine with some cards, all alike, as one of its processes sees it."""

    CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_DEVICEMAP = 1, 2
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUevent_flags = SimpleNamespace(CU_EVENT_BLOCKING_SYNC=1, CU_EVENT_DISABLE_TIMING=2)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor"
    )
    CUipcMemHandle = MemHandle
    CUipcMem_flags = SimpleNamespace(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS=1)
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared")

    def __init__(self, capability: int = 90, cards: int = 1, exports: Exports | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.launches: list[tuple[str, list[int]]] = []
        """The function of each launch, and the arguments that its pointers lead to."""
        self.failures: dict[str, Result] = {}
        """What the next call of a function answers."""
        self.parameters: dict[str, int] = {}
        """How many parameters each function has, with the two that Triton adds."""
        self._capability = capability
        self._cards = cards
        self._memory: dict[int, np.ndarray] = {}
        self._exports = exports or Exports()
        self._sizes: dict[int, int] = {}
        """The size of each allocation, of this process or mapped from another, by its address."""
        self.open_regions: list[int] = []
        self._handles = 0

    def __getattr__(self, name: str) -> Any:
        if name not in SIGNATURES:
            raise AttributeError(name)

        answer = getattr(self, "answer" + re.sub("([A-Z])", r"_\1", name.removeprefix("cu")).lower(), None)

        def function(*arguments: Any) -> tuple[Any, ...]:
            assert len(arguments) == SIGNATURES[name]
            self.calls.append((name, arguments))
            failure = self.failures.pop(name, None)
            if failure is not None:
                return (failure, None)
            value = None if answer is None else answer(*arguments)
            if isinstance(value, Result):
                return (value, *[None] * (2 if name == "cuMemGetAddressRange" else 1))
            if isinstance(value, tuple):
                return (Result.CUDA_SUCCESS, *value)
            return (Result.CUDA_SUCCESS,) if value is None else (Result.CUDA_SUCCESS, value)

        function.__name__ = name
        return function

    def named(self, *names: str) -> list[tuple[str, tuple[Any, ...]]]:
        return [own for own in self.calls if own[0] in names]

    def _handle(self, kind: str) -> str:
        self._handles += 1
        return f"{kind} {self._handles}"

    def _allocate(self, size: int) -> int:
        own = np.full(size + 256, 0xFF, np.uint8)
        address = -(-own.ctypes.data // 256) * 256
        self._memory[address] = own
        self._sizes[address] = size
        return address

    def answer_mem_free(self, address: int) -> None:
        del self._sizes[address]
        exported = self._exports.by_handle
        for handle in [handle for handle, (owner, own, _) in exported.items() if (owner, own) == (self, address)]:
            del exported[handle]

    def answer_mem_get_address_range(self, address: int) -> tuple[int, int] | Result:
        for begin, size in self._sizes.items():
            if begin <= address < begin + size:
                return begin, size
        return Result.CUDA_ERROR_NOT_FOUND

    def answer_ipc_get_mem_handle(self, address: int) -> MemHandle:
        own = MemHandle()
        content = f"memory {id(self)} {address}".encode().ljust(64, b"\0")
        ctypes.memmove(own.getPtr(), content, 64)
        self._exports.by_handle[content] = self, address, self._sizes[address]
        return own

    def answer_ipc_open_mem_handle(self, handle: MemHandle, flags: int) -> int | Result:
        if flags != 1:
            return Result.CUDA_ERROR_INVALID_VALUE
        if handle.content not in self._exports.by_handle:
            return Result.CUDA_ERROR_INVALID_HANDLE
        owner, address, size = self._exports.by_handle[handle.content]
        if owner is self:
            return Result.CUDA_ERROR_INVALID_CONTEXT
        self.open_regions.append(address)
        self._sizes[address] = size
        return address

    def answer_ipc_close_mem_handle(self, address: int) -> Result | None:
        if address not in self.open_regions:
            return Result.CUDA_ERROR_INVALID_VALUE
        self.open_regions.remove(address)
        del self._sizes[address]
        return None

    def answer_device_get_count(self) -> int:
        return self._cards

    def answer_device_get(self, index: int) -> int:
        return index

    def answer_device_get_attribute(self, kind: str, _device: int) -> int:
        return self._capability // 10 if kind == "major" else self._capability % 10

    def answer_device_get_name(self, _size: int, _device: int) -> bytes:
        return b"A card\0\0"

    def answer_device_get_uuid(self, _device: int) -> SimpleNamespace:
        return SimpleNamespace(bytes=bytes(range(16)))

    def answer_device_total_mem(self, _device: int) -> int:
        return 80 << 30

    def answer_device_primary_ctx_retain(self, _device: int) -> str:
        return "context"

    def answer_module_load_data(self, image: bytes) -> str:
        return self._handle("module")

    def answer_module_get_function(self, _module: str, name: bytes) -> str:
        return name.decode()

    def answer_stream_create(self, _flags: int) -> str:
        return self._handle("stream")

    def answer_event_create(self, _flags: int) -> str:
        return self._handle("event")

    def answer_mem_alloc(self, size: int) -> int:
        return self._allocate(size)

    def answer_mem_host_alloc(self, size: int, _flags: int) -> int:
        return self._allocate(size)

    def answer_launch_kernel(self, function: str, *arguments: Any) -> None:
        places = ctypes.cast(arguments[8], ctypes.POINTER(ctypes.c_void_p))
        count = self.parameters[function]
        values = [ctypes.cast(places[at], ctypes.POINTER(ctypes.c_uint64))[0] for at in range(count)]
        self.launches.append((function, values))
