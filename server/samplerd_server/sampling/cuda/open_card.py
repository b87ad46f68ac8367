"""The cards of this machine that our kernels can draw on."""

from __future__ import annotations

from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda.archive import choose_kernels
from samplerd_server.sampling.cuda.cuda_card import CudaCard, call, load_driver, read_capability

__all__ = ["find_cards", "is_installed", "open_card"]

_NAME_BYTES = 100


def is_installed() -> bool:
    """Tell whether `samplerd[cuda]` is installed, and a driver of NVIDIA."""
    return load_driver() is not None


def find_cards(*, usable_only: bool) -> list[str]:
    """Name the cards that the driver sees, by their numbers; none where `is_installed` is false.

    Args:
        usable_only: none, too, where our kernels do not run on the first.

    """
    driver = load_driver()
    if driver is None:
        return []
    count = call(driver.cuDeviceGetCount)
    if usable_only and count:
        try:
            choose_kernels(read_capability(driver, 0))
        except DeviceError:
            return []
    names = [call(driver.cuDeviceGetName, _NAME_BYTES, call(driver.cuDeviceGet, index)) for index in range(count)]
    return [name.split(b"\0")[0].decode(errors="replace") for name in names]


def open_card(index: int) -> CudaCard:
    """Make a card for our kernels; it is not started.

    Raises:
        DeviceError: `samplerd[cuda]` is not installed, there is no such card, or our kernels do not run on it.

    """
    driver = load_driver()
    if driver is None:
        raise DeviceError("kernel cuda needs a driver of NVIDIA, and pip install 'samplerd[cuda]'")
    return CudaCard(driver, index, choose_kernels(read_capability(driver, index)))
