"""Registered memory of CUDA devices: names, bounds and fields of errors, over a double of what the engine offers."""

from __future__ import annotations

import asyncio
import ctypes
import threading

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    NotFoundError,
    NotImplementedFieldError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_distribution import decode_new
from samplerd_server.transport.oip.regions import CudaPlace, Regions
from samplerd_server.transport.oip.registry import Place, SharedMemoryRegistry
from samplerd_server.transport.shared_memory.cuda_regions import (
    MAX_REGIONS,
    CudaRegion,
    CudaRegions,
    RegionBounds,
    RegionsFullError,
)

SIZE, MAX_BYTES = 4096, 2048
BOUNDS = RegionBounds(MAX_BYTES, 2 * SIZE, 0.0)
HANDLE = b"h" * 64
CONTENT = bytes(range(256)) * (SIZE // 256)


class Memory:
    """What the engine offers; a region is memory of this process."""

    index = 1

    @property
    def open_bytes(self) -> int:
        handles = [handle for _, handle in self.calls]
        return SIZE * sum(self.calls.count(("open", own)) > self.calls.count(("close", own)) for own in {*handles})

    def __init__(self) -> None:
        self.content = ctypes.create_string_buffer(CONTENT, SIZE)
        self.calls: list[tuple[str, bytes]] = []
        self.error: SamplerdError | None = None
        self.gate = threading.Event()
        self.gate.set()

    def open(self, handle: bytes, byte_size: int) -> int:
        assert self.gate.wait(10)
        if byte_size > SIZE:
            raise InvalidRequestError("byte_size", "too many")
        self.calls.append(("open", handle))
        return ctypes.addressof(self.content)

    def close(self, handle: bytes) -> None:
        self.calls.append(("close", handle))

    def lease(self, size: int) -> memoryview:
        return memoryview(bytearray(size))

    def copy(self, to: int, address: int, size: int, path: str) -> None:
        self.calls.append(("copy", path.encode()))
        if self.error is not None:
            raise self.error
        ctypes.memmove(to, address, size)

    def fetch(self, to: int, address: int, size: int, path: str) -> None:
        self.calls.append(("fetch", path.encode()))
        ctypes.memmove(to, address, size)

    def write(self, address: int, data: bytes, path: str) -> None:
        self.calls.append(("write", path.encode()))
        ctypes.memmove(address, data, len(data))


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def regions(memory, metrics) -> CudaRegions:
    own = CudaRegions(memory, why_off="", bounds=BOUNDS, metrics=metrics)
    await own.register("mine", CudaRegion(HANDLE, 1, SIZE), "rpc")
    return own


def decoder(regions: CudaRegions | None) -> Decoder:
    limits = LimitsConfig(max_rows=8, max_vocab_size=1000)
    return Decoder(
        limits=limits,
        capabilities=frozenset({"SampleRequest.guidance", "SamplingParams.guidance_scale"}),
        cuda_regions=regions,
    )


def rows(**fields) -> pb.CudaSharedMemory:
    return pb.CudaSharedMemory(**{"region": "mine", "byte_size": 40, "vocab_size": 10, **fields})


def field_of(error: SamplerdError) -> str:
    return error.field if isinstance(error, InvalidRequestError) else error.message.partition(":")[0]


async def test_rows_are_copied_when_the_request_is_admitted(regions, memory, metrics) -> None:
    request = decoder(regions).decode(pb.SampleRequest(cuda_shared_memory=rows(offset=3)))
    assert bytes(request.source.data) == bytes(40)
    assert request.source.address
    request.load()
    assert bytes(request.source.data) == CONTENT[3:43]
    assert memory.calls[1:] == [("copy", b"cuda_shared_memory")]
    assert metrics.cuda_shared_memory_bytes.value() == 40


async def test_a_request_may_come_as_bytes_and_guide_rows(regions, memory) -> None:
    message = pb.SampleRequest(cuda_shared_memory=rows(), seed=7)
    message.params.guidance_scale = 1.5
    message.guidance.cuda_shared_memory.CopyFrom(rows(offset=40))
    request = decoder(regions).decode_bytes(message.SerializeToString())
    request.load()
    assert bytes(request.source.data) + bytes(request.guidance.data) == CONTENT[:80]
    assert [call for call, _ in memory.calls] == ["open", "copy", "copy"]


async def test_both_together_have_a_limit(regions) -> None:
    message = pb.SampleRequest(cuda_shared_memory=rows(byte_size=1200, vocab_size=300))
    message.params.guidance_scale = 1.5
    message.guidance.cuda_shared_memory.CopyFrom(rows(byte_size=1200, vocab_size=300))
    with pytest.raises(InvalidRequestError, match=r"2400 bytes .* limit of 2048") as caught:
        decoder(regions).decode(message)
    assert caught.value.field == "guidance.cuda_shared_memory.byte_size"


async def test_an_upload_is_copied_to_the_host(regions, memory) -> None:
    message = pb.CreateDistributionRequest(name="d", cuda_shared_memory=rows(offset=8))
    new = decode_new(message.SerializeToString(), decoder(regions), now=0.0, default_ttl_s=1.0)
    new.request.load()
    assert memory.calls[1:] == [("fetch", b"cuda_shared_memory")]
    assert bytes(new.request.source.data) == CONTENT[8:48]
    assert new.field == "cuda_shared_memory"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"region": "other"}, "cuda_shared_memory.region"),
        ({"region": ""}, "cuda_shared_memory.region"),
        ({"offset": SIZE + 1}, "cuda_shared_memory.offset"),
        ({"offset": SIZE - 39}, "cuda_shared_memory.byte_size"),
        ({"offset": (1 << 64) - 1}, "cuda_shared_memory.offset"),
        ({"offset": (1 << 64) - 40}, "cuda_shared_memory.offset"),
        ({"byte_size": 39}, "cuda_shared_memory.byte_size"),
        ({"byte_size": (1 << 64) - 1}, "cuda_shared_memory.byte_size"),
        ({"byte_size": MAX_BYTES + 4, "vocab_size": MAX_BYTES // 4 + 1}, "cuda_shared_memory.byte_size"),
        ({"byte_size": 0}, "cuda_shared_memory.byte_size"),
        ({"vocab_size": 0}, "cuda_shared_memory.vocab_size"),
        ({"vocab_size": 1001}, "cuda_shared_memory.vocab_size"),
        ({"rows": 9}, "cuda_shared_memory.rows"),
        ({"dtype": 99}, "cuda_shared_memory.dtype"),
    ],
)
async def test_what_is_refused_names_its_field(regions, memory, fields, path) -> None:
    for prefix in ("", "guidance."):
        message = pb.SampleRequest()
        if prefix:
            message.tensor.CopyFrom(pb.Tensor(vocab_size=10, data=bytes(40)))
            message.params.guidance_scale = 1.5
        (message.guidance if prefix else message).cuda_shared_memory.CopyFrom(rows(**fields))
        with pytest.raises(SamplerdError) as caught:
            decoder(regions).decode(message)
        assert field_of(caught.value) == prefix + path
    assert [call for call, _ in memory.calls] == ["open"]


async def test_the_last_byte_may_be_named(regions) -> None:
    decoder(regions).decode(pb.SampleRequest(cuda_shared_memory=rows(offset=SIZE - 40)))


@pytest.mark.parametrize("is_made", [True, False])
async def test_where_it_is_off_every_field_says_so(metrics, is_made) -> None:
    off = CudaRegions(None, why_off="is off; --cuda-shared-memory", bounds=BOUNDS, metrics=metrics) if is_made else None
    with pytest.raises(NotImplementedFieldError, match=r"^cuda_shared_memory.*--cuda-shared-memory"):
        decoder(off).decode(pb.SampleRequest(cuda_shared_memory=rows()))
    message = pb.SampleRequest(tensor=pb.Tensor(vocab_size=10, data=bytes(40)))
    message.guidance.cuda_shared_memory.CopyFrom(rows())
    with pytest.raises(NotImplementedFieldError, match=r"^guidance\.cuda_shared_memory.*--cuda-shared-memory"):
        decoder(off).decode(message)
    if off is not None:
        with pytest.raises(NotImplementedFieldError, match=r"^rpc.*--cuda-shared-memory"):
            await off.register("mine", CudaRegion(HANDLE, 0, 1), "rpc")
        await off.unregister("")
        assert not off.status("")


@pytest.mark.parametrize(
    ("name", "region", "path"),
    [
        ("", CudaRegion(HANDLE, 1, SIZE), "name"),
        ("x" * 256, CudaRegion(HANDLE, 1, SIZE), "name"),
        ("other", CudaRegion(HANDLE, 0, SIZE), "device_id"),
        ("other", CudaRegion(HANDLE, 1, 0), "byte_size"),
        ("other", CudaRegion(HANDLE, 1, SIZE + 1), "byte_size"),
    ],
)
async def test_what_cannot_be_registered(regions, name, region, path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await regions.register(name, region, "rpc")
    assert caught.value.field == path
    assert list(regions.status("")) == ["mine"]


async def test_names_are_bounded_and_taken_once(regions, memory) -> None:
    with pytest.raises(AlreadyExistsError):
        await regions.register("mine", CudaRegion(HANDLE, 1, SIZE), "rpc")
    for number in range(MAX_REGIONS - 1):
        await regions.register(str(number), CudaRegion(HANDLE, 1, SIZE), "rpc")
    with pytest.raises(RegionsFullError):
        await regions.register("one more", CudaRegion(HANDLE, 1, SIZE), "rpc")
    assert regions.count == MAX_REGIONS
    await regions.unregister("")
    assert regions.count == 0
    assert memory.calls.count(("close", HANDLE)) == MAX_REGIONS


async def test_bytes_are_bounded_and_an_allocation_counts_once(regions, memory) -> None:
    await regions.register("again", CudaRegion(HANDLE, 1, SIZE), "rpc")
    await regions.register("second", CudaRegion(b"2" * 64, 1, 8), "rpc")
    assert regions.open_bytes == BOUNDS.open_bytes == 2 * SIZE
    with pytest.raises(RegionsFullError, match=r"8KiB of regions .*--cuda-shared-memory-bytes"):
        await regions.register("third", CudaRegion(b"3" * 64, 1, 8), "rpc")
    assert not regions.has("third")
    assert memory.calls[-2:] == [("open", b"3" * 64), ("close", b"3" * 64)]
    await regions.unregister("second")
    await regions.register("third", CudaRegion(b"3" * 64, 1, 8), "rpc")


async def test_what_nobody_names_for_long_is_unregistered(memory, metrics) -> None:
    regions = CudaRegions(memory, why_off="", bounds=BOUNDS._replace(idle_s=0.01), metrics=metrics)
    await regions.register("dead", CudaRegion(HANDLE, 1, SIZE), "rpc")
    async with asyncio.timeout(30):
        while regions.open_bytes:  # noqa: ASYNC110  # a thread closes it, and nothing tells of it
            await asyncio.sleep(0.001)
    assert regions.count == 0
    assert memory.calls == [("open", HANDLE), ("close", HANDLE)]
    assert metrics.cuda_shared_memory_expired.value() == 1
    with pytest.raises(NotFoundError, match=r"'dead' is registered, or no more: --cuda-shared-memory-idle 10ms"):
        decoder(regions).decode(pb.SampleRequest(cuda_shared_memory=rows(region="dead")))


async def test_a_region_that_took_the_name_meanwhile_stays(regions, memory) -> None:
    memory.gate.clear()
    await regions._changing.acquire()
    leaving = asyncio.create_task(regions.unregister("mine"))
    coming = asyncio.create_task(regions.register("mine", CudaRegion(b"n" * 64, 1, SIZE), "rpc"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    regions._give_up("mine")  # of the one before
    regions._changing.release()
    memory.gate.set()
    await asyncio.gather(leaving, coming, *regions._changes)
    assert memory.calls[1:] == [("close", HANDLE), ("open", b"n" * 64)]
    assert regions.has("mine")


async def test_an_unregistered_region_is_found_by_nobody(regions, memory, metrics) -> None:
    request = decoder(regions).decode(pb.SampleRequest(cuda_shared_memory=rows()))
    await regions.unregister("mine")
    await regions.unregister("mine")
    assert memory.calls[1:] == [("close", HANDLE)]
    with pytest.raises(NotFoundError, match=r"^cuda_shared_memory\.region: no region of CUDA memory 'mine'"):
        request.load()
    with pytest.raises(NotFoundError, match=r"^samples\.region: "):
        regions.write("mine", 0, 8, b"12345678", "samples")
    with pytest.raises(NotFoundError, match=r"^name: "):
        regions.status("mine")
    assert metrics.cuda_shared_memory_errors.value("not_found") == 2
    assert metrics.cuda_shared_memory_bytes.value() == 0


async def test_one_that_is_smaller_when_it_comes_again_is_not_read_beyond(regions) -> None:
    request = decoder(regions).decode(pb.SampleRequest(cuda_shared_memory=rows(offset=100)))
    await regions.unregister("mine")
    await regions.register("mine", CudaRegion(HANDLE, 1, 120), "rpc")
    with pytest.raises(InvalidRequestError, match="are not within the region's 120"):
        request.load()


async def test_a_card_that_cannot_copy_is_unavailable(regions, memory, metrics) -> None:
    request = decoder(regions).decode(pb.SampleRequest(cuda_shared_memory=rows()))
    memory.error = UnavailableError("gone")
    with pytest.raises(UnavailableError):
        request.load()
    assert metrics.cuda_shared_memory_errors.value("unavailable") == 1


async def test_a_caller_that_goes_away_leaves_no_region_without_a_name(regions, memory) -> None:
    memory.gate.clear()
    task = asyncio.create_task(regions.register("other", CudaRegion(b"o" * 64, 1, SIZE), "rpc"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    memory.gate.set()
    await regions.unregister("other")
    assert memory.calls[1:] == [("open", b"o" * 64), ("close", b"o" * 64)]


class Keys:
    """Regions of the host of which any key may be named."""

    def resolve(self, key: str, _path: str) -> str:
        return key


async def test_both_kinds_share_their_names(regions) -> None:
    both = Regions(SharedMemoryRegistry(Keys()), regions)  # type: ignore[arg-type]
    with pytest.raises(AlreadyExistsError):
        both.register("mine", Place("key", 0, 8), "rpc")
    both.register("host", Place("key", 0, 8), "rpc")
    with pytest.raises(AlreadyExistsError):
        await both.register_cuda("host", CudaRegion(HANDLE, 1, SIZE), "rpc")
    assert both.place("mine", 8, 16, "x") == CudaPlace("mine", 8, 16)
    assert both.place("host", 2, 6, "x") == Place("key", 2, 6)
    for offset, size in ((-1, 4), (0, -4), (SIZE, 1)):
        with pytest.raises(InvalidRequestError):
            both.place("mine", offset, size, "x")
    with pytest.raises(NotFoundError):
        Regions(None, regions).place("host", 0, 8, "x")


async def test_results_are_written_within_their_room(regions, memory) -> None:
    both = Regions(None, regions)
    both.write(CudaPlace("mine", 8, 8), b"12345678", "samples")
    assert memory.content.raw[8:16] == b"12345678"
    with pytest.raises(InvalidRequestError, match="9 bytes, but there is room for 8"):
        both.write(CudaPlace("mine", 8, 8), b"123456789", "samples")
