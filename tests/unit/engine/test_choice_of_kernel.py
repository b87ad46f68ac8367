"""A kernel that does not run on the device is an error of the configuration, told in one line."""

import logging

import pytest
import torch

from samplerd_server.config import EngineConfig
from samplerd_server.core.errors import DeviceError
from samplerd_server.engine.engine import Engine
from samplerd_server.sampling import choose
from samplerd_server.sampling.choose import choose_cdf_index_builder, choose_sampler
from samplerd_server.sampling.cuda import archive, cuda_card, open_card
from samplerd_server.sampling.cuda.archive import CompiledKernel
from tests.support.cuda_driver import CudaDriver


@pytest.fixture
def driver(monkeypatch) -> CudaDriver:
    """A machine with two cards of compute capability 9.0, for which kernels are compiled."""
    driver = CudaDriver(90, cards=2)
    monkeypatch.setattr(open_card, "load_driver", lambda: driver)
    kernel = CompiledKernel(name="measure", entry="measure", image=b"code", warps=1, shared_bytes=0)
    monkeypatch.setattr(open_card, "choose_kernels", lambda _: {"measure": kernel})
    return driver


@pytest.fixture
def without_kernels(driver, monkeypatch, tmp_path) -> None:
    """The same without compiled kernels."""
    monkeypatch.setattr(open_card, "choose_kernels", archive.choose_kernels)
    monkeypatch.setattr(archive, "archive_paths", lambda: iter([tmp_path / "gpu.zip"]))


@pytest.mark.parametrize("kernel", ["torch", "numba", "cuda"])
def test_a_kernel_that_is_not_the_devices_is_refused(monkeypatch, kernel) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # which choosing the device sets
    with pytest.raises(DeviceError, match="device interpret has kernels of its own"):
        Engine(EngineConfig(device="interpret", kernel=kernel))


def test_the_cpu_has_no_kernels_of_a_gpu() -> None:
    with pytest.raises(DeviceError, match="the cuda kernels run on a GPU, not on the CPU"):
        Engine(EngineConfig(device="cpu", kernel="cuda"))


def test_on_a_gpu_our_kernels_draw_where_they_are_compiled(driver) -> None:
    sampler = choose_sampler("cuda:1")
    assert sampler.name == "cuda + numba"
    assert sampler._sizes == ((80 << 30) // 8, 512 << 20)
    assert choose_sampler("cuda:0", "cuda", device_bytes=1 << 20)._sizes == (1 << 20, 1 << 20)
    assert choose_cdf_index_builder(sampler) is not None, "draws by name are the CPU's, to the bit"


def test_torch_draws_where_they_are_not_and_the_log_says_why(without_kernels, monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with caplog.at_level(logging.WARNING):
        assert choose_sampler("cuda:0").name == "torch"
    assert caplog.messages == [
        (
            "torch draws, whose bits are not those of the CPU: the kernels for GPUs are not compiled: "
            "python -m samplerd_server.precompile --cuda"
        )
    ]
    caplog.clear()
    assert choose_sampler("cuda:0", "torch").name == "torch"
    assert caplog.messages == []


def test_without_the_extra_torch_draws_as_before(monkeypatch, caplog) -> None:
    monkeypatch.setattr(choose, "is_installed", lambda: False)
    assert choose_sampler("cuda:0").name == "torch"
    assert caplog.messages == []


def test_a_torch_without_cuda_cannot_draw_instead(without_kernels, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="are not compiled"):
        choose_sampler("cuda:0")


def test_who_insists_on_our_kernels_is_told_what_is_missing(without_kernels, monkeypatch) -> None:
    with pytest.raises(DeviceError, match="are not compiled"):
        choose_sampler("cuda:0", "cuda")
    with pytest.raises(DeviceError, match="cuda:2 is not there"):
        choose_sampler("cuda:2", "cuda")
    monkeypatch.setattr(open_card, "load_driver", lambda: None)
    with pytest.raises(DeviceError, match=r"kernel cuda needs a driver of NVIDIA, and pip install 'samplerd\[cuda\]'"):
        choose_sampler("cuda:0", "cuda")


def test_the_driver_names_the_cards(driver) -> None:
    assert open_card.find_cards(usable_only=True) == ["A card", "A card"]


def test_auto_takes_no_card_on_which_our_kernels_do_not_run(without_kernels) -> None:
    assert open_card.find_cards(usable_only=True) == []
    assert open_card.find_cards(usable_only=False) == ["A card", "A card"]


def test_a_machine_without_a_driver_has_no_card(monkeypatch) -> None:
    class NoLibrary(CudaDriver):
        def answer_init(self, _flags: int) -> None:
            raise RuntimeError("no libcuda")

    assert cuda_card.load_driver() is None
    monkeypatch.setattr(cuda_card, "import_driver", NoLibrary)
    assert cuda_card.load_driver() is None
    monkeypatch.setattr(cuda_card, "import_driver", CudaDriver)
    assert cuda_card.load_driver() is not None
