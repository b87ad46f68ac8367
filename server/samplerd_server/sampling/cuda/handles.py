"""Device memory of other processes, opened by the handles that CUDA's driver gives of it (CUDA IPC).

State: written against the driver's documentation and tested against a double of `cuda.bindings`; no card has run it.
Rule 1: a handle comes from a client, so no answer of the driver to it counts as the loss of the card: what is really
lost is met by the next batch. Rule 2: memory whose size the driver does not tell is not opened, since nothing else
bounds what is read of it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from samplerd_server.sampling.cuda.card import RegionError

__all__ = ["HANDLE_BYTES", "close_handle", "open_handle"]

HANDLE_BYTES = 64
"""CU_IPC_HANDLE_SIZE of cuda.h."""
_SAME_PROCESS = "CUDA_ERROR_INVALID_CONTEXT"
"""What the driver answers to a handle that the same process has made."""


def open_handle(driver: Any, handle: bytes) -> tuple[int, int]:
    """Open memory in the current context; returns its address and its size in bytes.

    Raises:
        RegionError: the driver does not open it, or does not tell its size.

    """
    own = driver.CUipcMemHandle()
    ctypes.memmove(own.getPtr(), handle, HANDLE_BYTES)  # the bindings have no other way to fill it
    flags = int(driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)  # the only value that the driver takes
    error, address = driver.cuIpcOpenMemHandle(own, flags)
    if int(error):
        name = getattr(error, "name", str(error))
        hint = "; a process cannot open its own handles" if name == _SAME_PROCESS else ""
        raise RegionError(f"cuIpcOpenMemHandle answered {name}{hint}")
    error, begin, size = _range_of(driver, int(address))
    if int(error) or begin != int(address):
        driver.cuIpcCloseMemHandle(address)
        raise RegionError(f"cuMemGetAddressRange answered {getattr(error, 'name', error)}, and no size")
    return int(address), size


def _range_of(driver: Any, address: int) -> tuple[Any, int, int]:
    error, *values = driver.cuMemGetAddressRange(address)
    return (error, 0, 0) if int(error) else (error, int(values[0]), int(values[1]))


def close_handle(driver: Any, address: int) -> None:
    """Close memory in the current context.

    Raises:
        RegionError: the driver refused.

    """
    error, *_ = driver.cuIpcCloseMemHandle(address)
    if int(error):
        raise RegionError(f"cuIpcCloseMemHandle answered {getattr(error, 'name', error)}")
