"""A kernel that does not run on the device is an error of the configuration, told in one line."""

import pytest

from samplerd_server.config import EngineConfig
from samplerd_server.core.errors import DeviceError
from samplerd_server.engine.engine import Engine


def test_a_kernel_that_is_not_the_devices_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # which choosing the device sets
    with pytest.raises(DeviceError, match="device interpret has kernels of its own"):
        Engine(EngineConfig(device="interpret", kernel="torch"))
