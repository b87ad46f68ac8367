"""The choice of the device that draws, and of its threads.

Rule 1: torch, which takes a second and 180 MiB, is imported only where it may find a GPU, or draws. Rule 2: where
`samplerd[cuda]` is installed, CUDA's driver is asked for GPUs, not torch, which may be built for CPUs alone.
"""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from samplerd_server.config.environment import interpret_kernels
from samplerd_server.core.errors import DeviceError
from samplerd_server.process.cpu_quota import usable_cores
from samplerd_server.sampling.cuda.open_card import find_cards

__all__ = ["Device", "choose_device", "choose_threads", "torch_version"]

_DRIVER = "libcuda.so.1"
"""The driver's library, without which torch finds no GPU of NVIDIA."""
_ROCM = Path("/dev/kfd")
"""What the driver of AMD's GPUs offers; torch calls them CUDA devices too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The device that draws."""

    name: str
    """Name in torch, ``cpu`` or ``cuda:0``; or ``interpret``."""
    description: str
    """Product name, as the vendor reports it."""


def choose_device(configured: str) -> Device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``interpret`` into a device.

    With ``interpret`` the kernels for a GPU run in an interpreter on the CPU, at some tenths of a second a draw.

    Raises:
        DeviceError: there is no such device.

    """
    if configured == "interpret":
        if find_spec("triton") is None:
            raise DeviceError("device interpret is not there: it needs the package triton")
        interpret_kernels()
        return Device(name="interpret", description=f"{_cpu_name()}, interpreting kernels for a GPU")
    if configured != "cpu":
        found = find_cards(usable_only=configured == "auto")
        if found:
            return _choose_card(configured, found)
    if configured == "cpu" or (configured == "auto" and not _may_have_gpu()):
        return Device(name="cpu", description=_cpu_name())
    import torch  # noqa: PLC0415  # see the module

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if configured == "auto" and count == 0:
        return Device(name="cpu", description=_cpu_name())
    index = int(configured.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(f"device {configured} is not there: torch sees {count} CUDA devices")
    return Device(name=f"cuda:{index}", description=torch.cuda.get_device_name(index))


def _choose_card(configured: str, names: list[str]) -> Device:
    """Choose one of the cards that the driver names."""
    index = int(configured.partition(":")[2] or 0)
    if index >= len(names):
        raise DeviceError(f"device {configured} is not there: the driver sees {len(names)} CUDA devices")
    return Device(name=f"cuda:{index}", description=names[index])


def torch_version() -> str:
    """Give the version of torch that is installed, whether or not it is imported; empty if nothing tells it."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _may_have_gpu() -> bool:
    """Tell whether torch may find a GPU: not if it is built for CPUs alone, and not without a driver."""
    if torch_version().endswith("+cpu"):
        return False
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return _ROCM.exists()
    return True


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def choose_threads(configured: int) -> int:
    """Give the CPU threads that draw: as configured, or the cores that may be used less one for the event loop."""
    return configured or max(1, usable_cores() - 1)
