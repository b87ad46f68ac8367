"""The card behind CUDA's driver, over a double of it: what launches are given, in which order, and what fails how."""

from __future__ import annotations

import ctypes
import importlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import LogprobKind
from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda.archive import CompiledKernel
from samplerd_server.sampling.cuda.build import KERNELS
from samplerd_server.sampling.cuda.card import Buffer, CardLostError, LaunchError, OutOfCardMemoryError, RegionError
from samplerd_server.sampling.cuda.cuda_card import CudaCard, read_capability
from samplerd_server.sampling.cuda.handles import HANDLE_BYTES
from samplerd_server.sampling.cuda.sampler import CudaSampler
from samplerd_server.sampling.rows import DraftBatch, DraftSequence
from tests.support.cuda_driver import SIGNATURES, CudaDriver, Result
from tests.support.samplers import encode, outputs, params, request

MEASURE = SimpleNamespace(__name__="measure")


@pytest.fixture
def driver() -> CudaDriver:
    driver = CudaDriver()
    driver.parameters = {"measure_0d1d": 5}
    return driver


@pytest.fixture
def card(driver) -> CudaCard:
    own = CompiledKernel(name="measure", entry="measure_0d1d", image=b"code", warps=4, shared_bytes=64 << 10)
    card = CudaCard(driver, 0, {"measure": own})
    card.start()
    return card


def buffers(*addresses: int) -> list[Buffer]:
    return [Buffer(address, 1, "f4") for address in addresses]


def test_a_launch_is_given_pointers_to_its_arguments_and_to_no_scratch(driver, card) -> None:
    card.launch(MEASURE, 17, *buffers(0x7F00_0000_0100, 0x200, 0xFFFF_FFFF_FFFF_FF00))
    assert driver.launches == [("measure_0d1d", [0x7F00_0000_0100, 0x200, 0xFFFF_FFFF_FFFF_FF00, 0, 0])]
    [(_, (function, *sizes, _, extra))] = driver.named("cuLaunchKernel")
    assert function == "measure_0d1d"
    assert sizes[:7] == [17, 1, 1, 128, 1, 1, 64 << 10]
    assert extra == 0
    assert card.counts.launches == 1


def test_a_kernel_without_programs_is_not_launched(driver, card) -> None:
    card.launch(MEASURE, 0, *buffers(1, 2, 3))
    assert driver.launches == []
    assert card.counts.launches == 0


def test_much_shared_memory_is_asked_for_once(driver, card) -> None:
    assert driver.named("cuFuncSetAttribute") == [("cuFuncSetAttribute", ("measure_0d1d", "shared", 64 << 10))]


def test_kernels_wait_for_copies_and_a_thread_for_kernels(driver, card) -> None:
    before = len(driver.calls)
    card.copy(0x100, 0x200, 64)
    card.fence()
    card.launch(MEASURE, 1, *buffers(1, 2, 3))
    mark = card.mark()
    card.wait(mark)
    calls = driver.calls[before:]
    copied = next(arguments for name, arguments in calls if name == "cuMemcpyHtoDAsync")
    assert copied[:3] == (0x100, 0x200, 64)
    records = [arguments for name, arguments in calls if name == "cuEventRecord"]
    [(stream, event, _)] = [arguments for name, arguments in calls if name == "cuStreamWaitEvent"]
    assert records[0] == (event, copied[3])
    assert stream != copied[3]
    [launched] = [arguments for name, arguments in calls if name == "cuLaunchKernel"]
    assert launched[8] == stream
    assert records[1] == (mark, stream)
    assert [arguments for name, arguments in calls if name == "cuEventSynchronize"] == [(mark,)]
    names = [name for name, _ in calls]
    order = ["cuMemcpyHtoDAsync", "cuStreamWaitEvent", "cuLaunchKernel", "cuEventSynchronize"]
    assert [name for name in names if name in order] == order
    assert names.count("cuEventDestroy") == names.count("cuEventCreate") == 2
    assert (card.counts.copies, card.counts.copied_bytes, card.counts.waits) == (1, 64, 1)


def test_each_thread_enters_the_context_once(driver, card) -> None:
    def work() -> None:
        card.copy(0x100, 0x200, 64)
        card.fence()

    before = len(driver.named("cuCtxSetCurrent"))
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    card.fence()
    assert driver.named("cuCtxSetCurrent")[before:] == [("cuCtxSetCurrent", ("context",))] * 2


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (Result.CUDA_ERROR_OUT_OF_MEMORY, OutOfCardMemoryError),
        (Result.CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, LaunchError),
        (Result.CUDA_ERROR_INVALID_VALUE, LaunchError),
        (Result.CUDA_ERROR_ILLEGAL_ADDRESS, CardLostError),
    ],
)
def test_failures_have_kinds(driver, card, result, error) -> None:
    driver.failures["cuLaunchKernel"] = result
    with pytest.raises(error, match=f"^cuLaunchKernel answered {result.name}$"):
        card.launch(MEASURE, 1, *buffers(1, 2, 3))
    assert card.counts.launches == 0


def test_a_failure_of_work_that_was_enqueued_is_met_by_who_waits(driver, card) -> None:
    driver.failures["cuEventSynchronize"] = Result.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(CardLostError, match="cuEventSynchronize"):
        card.wait(card.mark())


def test_no_memory_is_an_error_of_its_own(driver, card) -> None:
    driver.failures |= {
        "cuMemAlloc": Result.CUDA_ERROR_OUT_OF_MEMORY,
        "cuMemHostAlloc": Result.CUDA_ERROR_OUT_OF_MEMORY,
    }
    for allocate in (card.allocate, card.allocate_locked):
        with pytest.raises(OutOfCardMemoryError):
            allocate(1 << 40)


def test_all_is_freed_at_the_end(driver, card) -> None:
    memory, locked = card.allocate(1_000), card.allocate_locked(500)
    assert memory % 256 == 0
    card.close()
    assert driver.named("cuMemFree") == [("cuMemFree", (memory,))]
    assert driver.named("cuMemFreeHost") == [("cuMemFreeHost", (locked,))]
    assert len(driver.named("cuModuleUnload")) == len(driver.named("cuModuleLoadData")) == 1
    assert len(driver.named("cuStreamDestroy")) == len(driver.named("cuStreamCreate")) == 2
    assert driver.calls[-1] == ("cuDevicePrimaryCtxRelease", (0,))
    card.close()
    assert driver.calls[-1] == ("cuDevicePrimaryCtxRelease", (0,))


def test_what_is_too_cheap_for_a_card_rises_with_the_rows(card) -> None:
    assert card.overhead_ns > 100 * card.row_overhead_ns > 0


def test_the_capability_of_a_card() -> None:
    assert read_capability(CudaDriver(86, cards=2), 1) == 86
    with pytest.raises(DeviceError, match="device cuda:2 is not there: the driver sees 2 CUDA devices"):
        read_capability(CudaDriver(86, cards=2), 2)


def test_the_double_is_like_the_driver() -> None:
    driver = importlib.import_module("cuda.bindings.driver")
    for name, count in SIGNATURES.items():
        said = (getattr(driver, name).__doc__ or "").split("\n")[0]
        inside = said[said.index("(") + 1 : said.rindex(")")]
        assert len([own for own in inside.split(",") if own.strip()]) == count, said
    kinds = ("CUstream_flags", "CUevent_flags", "CUdevice_attribute", "CUfunction_attribute", "CUipcMem_flags")
    for kind in kinds:
        for name in vars(getattr(CudaDriver, kind)):
            assert hasattr(getattr(driver, kind), name)
    for own in Result:
        assert int(getattr(driver.CUresult, own.name)) == own
    assert int(driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) == 1
    handle = driver.CUipcMemHandle()
    ctypes.memmove(handle.getPtr(), bytes(range(64)), HANDLE_BYTES)
    assert ctypes.string_at(handle.getPtr(), HANDLE_BYTES) == bytes(range(64)), "a handle is filled through its pointer"


@pytest.fixture
def exported(driver) -> tuple[int, bytes]:
    """Memory of another process on the same device: its address and its handle."""
    client = CudaDriver(exports=driver._exports)
    _, address = client.cuMemAlloc(4096)
    _, handle = client.cuIpcGetMemHandle(address)
    return address, handle.content


def test_memory_of_another_process_is_opened_copied_from_and_closed(driver, card, exported) -> None:
    address, handle = exported
    assert card.open_region(handle) == (address, 4096)
    before = len(driver.calls)
    card.copy(0x100, 0x200, 64)
    card.copy_within(0x1000, address + 3, 64)
    card.fetch(0x2000, address, 32)
    card.store(address, 0x2000, 32)
    card.close_region(address)
    calls = driver.calls[before:]
    [within] = [arguments for name, arguments in calls if name == "cuMemcpyDtoDAsync"]
    [to, _] = [arguments for name, arguments in calls if name == "cuMemcpyHtoDAsync"]
    assert within == (0x1000, address + 3, 64, to[3]), "in the stream of the other copies"
    [back] = [arguments for name, arguments in calls if name == "cuMemcpyDtoHAsync"]
    assert back == (0x2000, address, 32, to[3])
    order = [name for name, _ in calls if name in {"cuEventRecord", "cuEventSynchronize", "cuIpcCloseMemHandle"}]
    assert order == ["cuEventRecord", "cuEventSynchronize"] * 3 + ["cuIpcCloseMemHandle"], "it waits for copies"
    assert {arguments[1] for name, arguments in calls if name == "cuEventRecord"} == {to[3]}
    assert driver.open_regions == []
    assert (card.counts.copies, card.counts.copied_bytes, card.counts.waits) == (1, 64, 0)


@pytest.mark.parametrize(
    "result",
    [Result.CUDA_ERROR_MAP_FAILED, Result.CUDA_ERROR_INVALID_HANDLE, Result.CUDA_ERROR_ILLEGAL_ADDRESS],
)
def test_no_handle_counts_as_the_loss_of_the_card(driver, card, exported, result) -> None:
    driver.failures["cuIpcOpenMemHandle"] = result
    with pytest.raises(RegionError, match=f"^cuIpcOpenMemHandle answered {result.name}$"):
        card.open_region(exported[1])
    with pytest.raises(RegionError, match="CUDA_ERROR_INVALID_HANDLE"):
        card.open_region(bytes(64))


def test_a_process_does_not_open_its_own_memory(driver, card) -> None:
    _, handle = driver.cuIpcGetMemHandle(card.allocate(512))
    with pytest.raises(RegionError, match="INVALID_CONTEXT; a process cannot open its own handles"):
        card.open_region(handle.content)


def test_memory_of_unknown_size_is_closed_again(driver, card, exported) -> None:
    driver.failures["cuMemGetAddressRange"] = Result.CUDA_ERROR_NOT_FOUND
    with pytest.raises(RegionError, match="cuMemGetAddressRange answered CUDA_ERROR_NOT_FOUND, and no size"):
        card.open_region(exported[1])
    assert driver.open_regions == []


def test_a_region_is_closed_even_where_the_card_is_lost(driver, card, exported) -> None:
    address, handle = exported
    card.open_region(handle)
    driver.failures["cuEventSynchronize"] = Result.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(CardLostError):
        card.close_region(address)
    assert driver.open_regions == []
    with pytest.raises(RegionError, match="cuIpcCloseMemHandle answered CUDA_ERROR_INVALID_VALUE"):
        card.close_region(address)


@pytest.mark.parametrize("name", ["cuMemcpyDtoDAsync", "cuMemcpyDtoHAsync"])
def test_copies_that_fail_are_failures_of_their_kind(driver, card, name) -> None:
    copy = card.copy_within if name == "cuMemcpyDtoDAsync" else card.fetch
    driver.failures[name] = Result.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(LaunchError, match=name):
        copy(0x100, 0x200, 64)
    driver.failures[name] = Result.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(CardLostError, match=name):
        copy(0x100, 0x200, 64)


def test_every_kernel_of_a_batch_is_launched_with_the_arguments_that_it_was_compiled_for() -> None:
    driver = CudaDriver()
    driver.parameters = {name: len(signature) + 2 for name, (_, signature, _) in KERNELS.items()}
    kernels = {
        name: CompiledKernel(name=name, entry=name, image=b"code", warps=warps, shared_bytes=0)
        for name, (_, _, warps) in KERNELS.items()
    }
    sampler = CudaSampler(CudaCard(driver, 0, kernels), device_bytes=1 << 20, locked_bytes=1 << 20)
    sampler.warm_up()
    x, everything = np.zeros(600), outputs(*LogprobKind, entropy=tuple(LogprobKind), rank=True, kept=True)
    requests = [
        request(x, seed=1, num_samples=70, outputs=everything),
        request(x, seed=2, params=params(top_k=5)),
        request(x, seed=3, params=params(top_p=0.5, bias_ids=np.array([1]), bias_values=np.array([1.0]))),
        request(x, seed=4, with_replacement=False),
    ]
    before = len(driver.calls)
    results = sampler.begin(pack(requests))()
    names = [name for name, _ in driver.launches]
    assert names == ["measure", "adjust", "measure", "select", "pick", "draw_left", "moments", "describe"]
    for name, values in driver.launches:
        *own, first, second = values
        assert (first, second) == (0, 0), "Triton's scratch"
        assert all(value and value % 256 == 0 for value in own), f"{name} is given what no arena gave"
    sizes = [arguments[1:7] for _, arguments in driver.named("cuLaunchKernel")]
    assert all(programs > 0 for programs, *_ in sizes)
    assert [threads for _, _, _, threads, *_ in sizes] == [32 * kernels[name].warps for name in names]
    calls = [name for name, _ in driver.calls[before:]]
    assert [calls.count(name) for name in ("cuMemcpyHtoDAsync", "cuStreamWaitEvent", "cuEventSynchronize")] == [1, 1, 1]
    assert not any(name.startswith(("cuMemAlloc", "cuMemHostAlloc")) for name in calls), "memory was taken at the start"
    assert (results.samples == -1).all(), "nothing runs there"
    before, driver.launches[:] = len(driver.calls), []
    two = DraftSequence(
        target=pack([request(np.zeros((3, 600)), seed=1, params=params(top_p=0.5, min_tokens_to_keep=2))]),
        draft_ids=np.array([1, 2], np.int32),
        parents=np.array([-1, 0], np.int32),
        draft=encode(np.ones((2, 600))),
    )
    sampler.begin_drafts(DraftBatch(sequences=(two, two)))()
    assert [name for name, _ in driver.launches] == ["measure", "select", "judge"]
    assert driver.named("cuLaunchKernel")[-1][1][1] == 2, "a program for each"
    calls = [name for name, _ in driver.calls[before:]]
    assert [calls.count(name) for name in ("cuMemcpyHtoDAsync", "cuStreamWaitEvent", "cuEventSynchronize")] == [1, 1, 1]
    sampler.close()
    assert driver.calls[-1][0] == "cuDevicePrimaryCtxRelease"
