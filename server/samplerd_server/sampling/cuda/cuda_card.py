"""A card of NVIDIA, through CUDA's driver: kernels that were compiled ahead of time, no compiler and no torch.

State: written against the driver's documentation and tested against a double of `cuda.bindings`; no card has run it.
Rule 1: the context is the device's primary one, which torch shares, and is made current in each thread that calls.
Rule 2: an error of the driver that is not known to leave the context whole counts as its loss.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda.card import CardLostError, Counts, LaunchError, OutOfCardMemoryError
from samplerd_server.sampling.cuda.handles import close_handle, open_handle
from samplerd_server.sampling.cuda.sensors import open_sensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from samplerd_server.sampling.cuda.archive import CompiledKernel

__all__ = ["CudaCard", "load_driver", "read_capability"]

_OUT_OF_MEMORY = 2
_HARMLESS = {1, 9, 701}
"""Errors after which the context is whole: a wrong argument, a wrong grid, too few resources for a launch."""
_OVERHEAD_NS, _ROW_OVERHEAD_NS = 500_000, 3_000
"""What the host does until a batch is enqueued, of any number of rows and for each of them. Measured without a card,
and rounded up for what a card adds, the calls of its driver and a thread that is woken
(docs/design/0052-what-the-host-does-for-a-card.md)."""
_THREADS = 32
"""Of a warp."""
_SCRATCH = 2
"""Pointers that compiled kernels take after their own arguments, to memory that ours do not need."""
_USUAL_SHARED_BYTES = 48 << 10
"""Shared memory that a launch may ask for without more ado."""


def import_driver() -> Any:
    """Import `cuda.bindings.driver`, an optional dependency.

    Raises:
        ImportError: it is not installed.

    """
    from cuda.bindings import driver  # noqa: PLC0415  # see above

    return driver


def load_driver() -> Any:
    """Import and initialise CUDA's driver; None where it, or its bindings, are not installed."""
    try:
        driver = import_driver()
        [error, *_] = driver.cuInit(0)
    except Exception:  # noqa: BLE001  # beside ImportError it raises an error of its own where there is no libcuda
        return None
    return driver if int(error) == 0 else None


def call(function: Any, *arguments: Any) -> Any:
    """Call a function of the driver; returns what it returns beside its error, one value or a tuple of them.

    Raises:
        CardError: it failed; see the module.

    """
    error, *values = function(*arguments)
    if int(error):
        name = getattr(error, "name", str(error))
        text = f"{getattr(function, '__name__', 'a call')} answered {name}"
        if int(error) == _OUT_OF_MEMORY:
            raise OutOfCardMemoryError(text)
        raise LaunchError(text) if int(error) in _HARMLESS else CardLostError(text)
    return values[0] if len(values) == 1 else tuple(values)


def read_capability(driver: Any, index: int) -> int:
    """Read the compute capability of a device, ten times.

    Raises:
        DeviceError: there is no such device.

    """
    count = call(driver.cuDeviceGetCount)
    if index >= count:
        raise DeviceError(f"device cuda:{index} is not there: the driver sees {count} CUDA devices")
    device, kinds = call(driver.cuDeviceGet, index), driver.CUdevice_attribute
    major = call(driver.cuDeviceGetAttribute, kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    minor = call(driver.cuDeviceGetAttribute, kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    return int(10 * major + minor)


class CudaCard:
    """See `card.Card`."""

    def __init__(self, driver: Any, index: int, kernels: Mapping[str, CompiledKernel]) -> None:
        self.counts = Counts()
        self._driver = driver
        self._index = index
        self._kernels = kernels
        self._functions: dict[str, Any] = {}
        self._modules: list[Any] = []
        self._memory: list[int] = []
        self._locked: list[int] = []
        self._threads = threading.local()
        self._context: Any = None
        self._copies: Any = None
        self._launches: Any = None

    @property
    def name(self) -> str:
        """As GetServerInfo and the log show it."""
        return "cuda"

    @property
    def most_draws(self) -> int:
        """It makes any number."""
        return 0

    @property
    def sensors(self) -> Mapping[str, Callable[[], float]]:
        """What NVIDIA's management library reads, which numbers cards in another order."""
        uuid = call(self._driver.cuDeviceGetUuid, call(self._driver.cuDeviceGet, self._index))
        return open_sensors(bytes(uuid.bytes)[:16])

    @property
    def overhead_ns(self) -> int:
        """See `_OVERHEAD_NS`."""
        return _OVERHEAD_NS

    @property
    def row_overhead_ns(self) -> int:
        """See `_OVERHEAD_NS`."""
        return _ROW_OVERHEAD_NS

    @property
    def index(self) -> int:
        """Its number, as the driver counts in this process."""
        return self._index

    @property
    def total_bytes(self) -> int:
        """The memory of the card."""
        return int(call(self._driver.cuDeviceTotalMem, call(self._driver.cuDeviceGet, self._index)))

    def start(self) -> None:
        """Take the device's context, and load the kernels."""
        driver = self._driver
        self._context = call(driver.cuDevicePrimaryCtxRetain, call(driver.cuDeviceGet, self._index))
        self._enter()
        for own in self._kernels.values():
            module = call(driver.cuModuleLoadData, own.image)
            self._modules.append(module)
            function = self._functions[own.name] = call(driver.cuModuleGetFunction, module, own.entry.encode())
            if own.shared_bytes > _USUAL_SHARED_BYTES:
                kind = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                call(driver.cuFuncSetAttribute, function, kind, own.shared_bytes)
        kind = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._copies, self._launches = call(driver.cuStreamCreate, kind), call(driver.cuStreamCreate, kind)

    def _enter(self) -> None:
        """Make the context current in this thread."""
        if not getattr(self._threads, "has_entered", False):
            call(self._driver.cuCtxSetCurrent, self._context)
            self._threads.has_entered = True

    def allocate(self, size: int) -> int:
        """Allocate device memory, which the driver places at multiples of 256 bytes at least."""
        self._enter()
        address = int(call(self._driver.cuMemAlloc, size))
        self._memory.append(address)
        return address

    def allocate_locked(self, size: int) -> int:
        """Allocate page-locked memory, which with unified addressing every card reads where the host does."""
        self._enter()
        flags = int(self._driver.CU_MEMHOSTALLOC_PORTABLE) | int(self._driver.CU_MEMHOSTALLOC_DEVICEMAP)
        address = int(call(self._driver.cuMemHostAlloc, size, flags))
        self._locked.append(address)
        return address

    def copy(self, to: int, own: int, size: int) -> None:
        """Enqueue a copy."""
        self._enter()
        call(self._driver.cuMemcpyHtoDAsync, to, own, size, self._copies)
        self.counts.copies += 1
        self.counts.copied_bytes += size

    def copy_within(self, to: int, own: int, size: int) -> None:
        """Enqueue a copy from device memory to device memory, in the order of the other copies."""
        self._enter()
        call(self._driver.cuMemcpyDtoDAsync, to, own, size, self._copies)

    def fetch(self, to: int, own: int, size: int) -> None:
        """Copy device memory to memory of the host, and wait."""
        self._enter()
        call(self._driver.cuMemcpyDtoHAsync, to, own, size, self._copies)
        self._finish_copies()

    def store(self, to: int, own: int, size: int) -> None:
        """Copy memory of the host to device memory, and wait."""
        self._enter()
        call(self._driver.cuMemcpyHtoDAsync, to, own, size, self._copies)
        self._finish_copies()

    def _finish_copies(self) -> None:
        event = self._record(self._copies)
        call(self._driver.cuEventSynchronize, event)
        call(self._driver.cuEventDestroy, event)

    def open_region(self, handle: bytes) -> tuple[int, int]:
        """Open memory of another process."""
        self._enter()
        return open_handle(self._driver, handle)

    def close_region(self, address: int) -> None:
        """Close it, once all copies have run."""
        self._enter()
        try:
            self._finish_copies()
        finally:
            close_handle(self._driver, address)

    def fence(self) -> None:
        """Let kernels wait for the copies so far."""
        event = self._record(self._copies)
        call(self._driver.cuStreamWaitEvent, self._launches, event, 0)
        call(self._driver.cuEventDestroy, event)  # the driver frees it once it was passed

    def launch(self, kernel: Any, programs: int, *arguments: Any) -> None:
        """Enqueue a kernel, whose arguments are all pointers."""
        if not programs:
            return
        self._enter()
        own = self._kernels[kernel.__name__]
        values = np.array([each.data_ptr() for each in arguments] + [0] * _SCRATCH, np.uint64)
        places = values.ctypes.data + 8 * np.arange(len(values), dtype=np.uint64)
        call(
            self._driver.cuLaunchKernel,
            self._functions[own.name],
            *(programs, 1, 1),
            *(_THREADS * own.warps, 1, 1),
            own.shared_bytes,
            self._launches,
            int(places.ctypes.data),
            0,
        )
        self.counts.launches += 1

    def mark(self) -> Any:
        """Record an event, for which a thread sleeps."""
        return self._record(self._launches)

    def _record(self, stream: Any) -> Any:
        self._enter()
        flags = self._driver.CUevent_flags
        event = call(self._driver.cuEventCreate, int(flags.CU_EVENT_BLOCKING_SYNC) | int(flags.CU_EVENT_DISABLE_TIMING))
        call(self._driver.cuEventRecord, event, stream)
        return event

    def wait(self, mark: Any) -> None:
        """Wait for an event, without the interpreter's lock."""
        self._enter()
        self.counts.waits += 1
        call(self._driver.cuEventSynchronize, mark)
        call(self._driver.cuEventDestroy, mark)

    def close(self) -> None:
        """Free all memory; what fails is left to the end of the process."""
        driver = self._driver
        if self._context is None:
            return
        frees = [
            *((driver.cuMemFree, own) for own in self._memory),
            *((driver.cuMemFreeHost, own) for own in self._locked),
            *((driver.cuModuleUnload, own) for own in self._modules),
            *((driver.cuStreamDestroy, own) for own in (self._copies, self._launches) if own is not None),
        ]
        driver.cuCtxSetCurrent(self._context)
        for function, own in frees:
            function(own)
        driver.cuDevicePrimaryCtxRelease(call(driver.cuDeviceGet, self._index))
        self._context = None
