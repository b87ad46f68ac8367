"""Which device `auto` is, and whether torch must be imported to know."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from samplerd_server.core.errors import DeviceError
from samplerd_server.engine import device


def fail(*_: Any) -> Any:
    raise OSError("no such library")


@pytest.mark.parametrize(
    ("installed", "load", "has_rocm", "may_have"),
    [
        ("2.13.0+cpu", lambda _: None, True, False),
        ("2.13.0", lambda _: None, False, True),
        ("2.13.0", fail, False, False),
        ("2.13.0+rocm6.4", fail, True, True),
        ("", fail, False, False),
    ],
    ids=["built for CPUs", "driver", "no driver", "ROCm", "nothing tells the version"],
)
def test_torch_is_asked_where_it_may_find_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    installed: str,
    load: Callable[[str], None],
    has_rocm: bool,
    may_have: bool,
) -> None:
    asked = []
    monkeypatch.setattr(device, "torch_version", lambda: installed)
    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(device, "_ROCM", tmp_path if has_rocm else tmp_path / "absent")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(asked.append(1)))
    assert device.choose_device("auto").name == "cpu"
    assert bool(asked) == may_have


def test_a_gpu_that_torch_finds_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"number {index}")
    assert device.choose_device("auto") == device.Device(name="cuda:0", description="number 0")
    assert device.choose_device("cuda:1").description == "number 1"
    with pytest.raises(DeviceError, match="cuda:2 is not there: torch sees 2 CUDA devices"):
        device.choose_device("cuda:2")


def test_the_version_is_that_of_torch() -> None:
    assert device.torch_version() == torch.__version__


def test_where_the_driver_is_asked_torch_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", fail)
    found = {True: [], False: ["one", "two"]}
    monkeypatch.setattr(device, "find_cards", lambda *, usable_only: found[usable_only])
    monkeypatch.setattr(device, "_may_have_gpu", lambda: False)
    assert device.choose_device("auto").name == "cpu", "our kernels do not run there"
    assert device.choose_device("cuda") == device.Device(name="cuda:0", description="one")
    assert device.choose_device("cuda:1") == device.Device(name="cuda:1", description="two")
    with pytest.raises(DeviceError, match="cuda:2 is not there: the driver sees 2 CUDA devices"):
        device.choose_device("cuda:2")
    assert device.choose_device("cpu").name == "cpu"
    found[True] = ["one"]
    assert device.choose_device("auto").name == "cuda:0"
