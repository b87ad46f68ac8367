"""What NVIDIA's management library reads of a card: utilisation, power and temperature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["import_library", "open_sensors"]

_TEMPERATURE = 0
"""The sensor on the die: NVML_TEMPERATURE_GPU."""


def import_library() -> Any:
    """Import `pynvml`, which the package `nvidia-ml-py` holds, an optional dependency.

    Raises:
        ImportError: it is not installed.

    """
    import pynvml  # noqa: PLC0415  # see above

    return pynvml


def open_sensors(uuid: bytes) -> Mapping[str, Callable[[], float]]:
    """Find what can be read of the card with this id, 16 bytes, by the names of metrics; nothing where nothing can.

    What cannot be read later is NaN.
    """
    try:
        library = import_library()
        library.nvmlInit()
        digits = uuid.hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        handle = library.nvmlDeviceGetHandleByUUID("GPU-" + "-".join(parts))
    except Exception:  # noqa: BLE001  # beside ImportError it raises errors of its own, where there is no driver or card
        return {}

    def read(function: Callable[[], float]) -> Callable[[], float]:
        def value() -> float:
            try:
                return function()
            except library.NVMLError:
                return math.nan

        return value

    return {
        "device_utilization_ratio": read(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
        "device_power_watts": read(lambda: library.nvmlDeviceGetPowerUsage(handle) / 1000),
        "device_temperature_celsius": read(lambda: library.nvmlDeviceGetTemperature(handle, _TEMPERATURE)),
    }
