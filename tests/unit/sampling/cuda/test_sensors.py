"""What is read of a card, over a double of NVIDIA's management library."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from samplerd_server.sampling.cuda import sensors
from samplerd_server.sampling.cuda.cuda_card import CudaCard
from tests.support.cuda_driver import CudaDriver


class Library:
    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self) -> None:
        self.fails = False

    def nvmlInit(self) -> None:  # noqa: N802  # the library's names
        if self.fails:
            raise self.NVMLError

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle"
        return SimpleNamespace(gpu=75)

    def nvmlDeviceGetPowerUsage(self, _handle: str) -> int:  # noqa: N802
        if self.fails:
            raise self.NVMLError
        return 312_500

    def nvmlDeviceGetTemperature(self, _handle: str, sensor: int) -> int:  # noqa: N802
        assert sensor == 0
        return 61


@pytest.fixture
def library(monkeypatch) -> Library:
    library = Library()
    monkeypatch.setattr(sensors, "import_library", lambda: library)
    return library


def test_a_card_is_found_by_its_id_and_read(library) -> None:
    found = CudaCard(CudaDriver(), 0, {}).sensors
    assert {name: read() for name, read in found.items()} == {
        "device_utilization_ratio": 0.75,
        "device_power_watts": 312.5,
        "device_temperature_celsius": 61,
    }
    library.fails = True
    assert math.isnan(found["device_power_watts"]())


def test_without_the_library_or_a_driver_there_is_nothing_to_read(library, monkeypatch) -> None:
    library.fails = True
    assert sensors.open_sensors(bytes(range(16))) == {}

    def fail() -> None:
        raise ImportError

    monkeypatch.setattr(sensors, "import_library", fail)
    assert sensors.open_sensors(bytes(range(16))) == {}
