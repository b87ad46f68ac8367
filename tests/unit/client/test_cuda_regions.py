"""The regions of a client: registered once for an allocation, kept alive, unregistered, and how many there may be."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest
import torch

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_client import ConnectionLostError, DeadlineError, NotImplementedFieldError, UnavailableError
from samplerd_client.cuda_regions import CudaRegions
from samplerd_client.device_rows import capture_rows
from samplerd_client.errors import AlreadyExistsError
from samplerd_client.retry import Deadline, SystemClock
from tests.support.cuda_tensor import card, freed

__all__ = ["card"]

ROWS = np.ones((2, 100), np.float32)


def soon() -> Deadline:
    return Deadline.after(30.0, SystemClock())


class Server:
    """What a client calls: it knows names, as the server does."""

    def __init__(self) -> None:
        self.regions: dict[str, oip.CudaSharedMemoryRegisterRequest] = {}
        self.registered = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, name: str, body: bytes, decode, timeout_s: float | None):
        if name.endswith("Register"):
            await self.gate.wait()
            request = oip.CudaSharedMemoryRegisterRequest.FromString(body)
            self.registered += 1
            if self.failure is not None:
                raise self.failure
            self.regions[request.name] = request
        else:
            assert name.endswith("Unregister")
            self.regions.pop(oip.CudaSharedMemoryUnregisterRequest.FromString(body).name, None)
        return decode(b"")


@pytest.fixture
async def server():
    return Server()


@pytest.fixture
async def regions(server):
    own = CudaRegions(server.call, max_regions=2)
    yield own
    await own.aclose()
    assert not server.regions


async def use(regions: CudaRegions, tensor) -> str:
    region = await regions.acquire(capture_rows(tensor, None), soon())
    regions.release(region)
    return region.name


async def settle(until) -> None:
    async with asyncio.timeout(20):
        while not until():  # noqa: ASYNC110  # what is waited for knows nothing of the loop
            await asyncio.sleep(0.005)


async def test_an_allocation_is_registered_once_for_all_tensors_in_it(card, server, regions) -> None:
    block = card.allocate(4096)
    one, other = block.tensor(ROWS), block.tensor(ROWS.astype(np.float16), offset=1000)
    names = {await use(regions, own) for own in (one, other, one[1:], other[0])}
    assert len(names) == server.registered == 1
    [request] = server.regions.values()
    begin, size = card.allocation(one.data_ptr())
    assert (request.raw_handle, request.byte_size, request.device_id) == (card.handle(begin), size, 0)
    rows = capture_rows(other[1:], None)
    assert (rows.offset, rows.rows, rows.vocab_size, rows.dtype) == (1200, 1, 100, "f16")


async def test_calls_at_the_same_time_wait_for_one_registering(card, server, regions) -> None:
    tensor = card.tensor(ROWS)
    server.gate.clear()
    calls = [asyncio.create_task(use(regions, tensor)) for _ in range(5)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    server.gate.set()
    names = await asyncio.gather(*calls[1:])
    assert (len(set(names)), server.registered) == (1, 1)
    assert calls[0].cancelled()


async def test_the_storage_lives_as_long_as_the_region(card, server) -> None:
    regions = CudaRegions(server.call, idle_s=0.1)
    tensor = card.tensor(ROWS)
    storage = freed(tensor)
    await use(regions, tensor)
    del tensor
    gc.collect()
    assert storage() is not None
    assert server.regions
    await settle(lambda: not server.regions and not len(regions))
    await settle(lambda: gc.collect() is not None and storage() is None)


async def test_what_was_used_longest_ago_makes_room_and_what_is_in_use_stays(card, server, regions) -> None:
    tensors = [card.tensor(ROWS) for _ in range(4)]
    held = await regions.acquire(capture_rows(tensors[0], None), soon())
    names = [await use(regions, own) for own in tensors[1:]]
    await settle(lambda: len(server.regions) == 2)
    assert set(server.regions) == {held.name, names[-1]}
    regions.release(held)
    name = await use(regions, tensors[1])
    await settle(lambda: len(server.regions) == 2)
    assert set(server.regions) == {held.name, name}


async def test_other_memory_at_the_same_address_is_another_region(card, server, regions) -> None:
    tensor = card.tensor(ROWS)
    first = await use(regions, tensor)
    card.rename(tensor)
    second = await use(regions, tensor)
    assert first != second
    await settle(lambda: set(server.regions) == {second})


async def test_a_retired_region_ends_with_its_last_request(card, server, regions) -> None:
    tensor = card.tensor(ROWS)
    old = await regions.acquire(capture_rows(tensor, None), soon())
    regions.retire(old)
    new = await regions.acquire(capture_rows(tensor, None), soon())
    await asyncio.sleep(0.02)
    assert set(server.regions) == {old.name, new.name}
    regions.release(old)
    await settle(lambda: set(server.regions) == {new.name})
    regions.release(new)


async def test_a_failure_is_told_and_tried_again_by_the_next_call(card, server, regions) -> None:
    tensor = card.tensor(ROWS)
    server.failure = UnavailableError("away")
    with pytest.raises(UnavailableError, match="away"):
        await use(regions, tensor)
    assert not len(regions)
    server.failure = NotImplementedFieldError("CudaSharedMemoryRegister: is off on this server")
    with pytest.raises(
        NotImplementedFieldError, match=r"is off.*--device cuda and --cuda-shared-memory, or .*\.cpu\(\)"
    ):
        await use(regions, tensor)
    server.failure = AlreadyExistsError("of an attempt whose reply was lost")
    await use(regions, tensor)
    assert len(regions) == 1


async def test_a_call_waits_no_longer_than_it_may(card, server, regions) -> None:
    server.gate.clear()
    rows = capture_rows(card.tensor(ROWS), None)
    with pytest.raises(DeadlineError, match="before its memory was registered"):
        await regions.acquire(rows, Deadline.after(0.02, SystemClock()))
    server.gate.set()


async def test_closing_unregisters_what_is_in_use_and_gives_up_in_time(card, server, monkeypatch) -> None:
    monkeypatch.setattr("samplerd_client.cuda_regions._CLOSE_S", 0.05)
    regions = CudaRegions(server.call)
    held = await regions.acquire(capture_rows(card.tensor(ROWS), None), soon())
    await regions.aclose()
    assert not server.regions
    regions.release(held)
    server.gate.clear()
    waiting = asyncio.create_task(regions.acquire(capture_rows(card.tensor(ROWS), None), soon()))
    await asyncio.sleep(0.01)
    await regions.aclose()
    server.gate.set()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_while_it_closes_nothing_is_registered(card, server) -> None:
    regions = CudaRegions(server.call)
    await use(regions, card.tensor(ROWS))
    closing = asyncio.create_task(regions.aclose())
    await asyncio.sleep(0)
    with pytest.raises(ConnectionLostError):
        await use(regions, card.tensor(ROWS))
    await closing
    assert not server.regions


async def test_why_none_can_be_registered_is_told(card, server) -> None:
    regions = CudaRegions(server.call, why_not="there are several servers")
    with pytest.raises(ValueError, match="several servers"):
        await use(regions, card.tensor(ROWS))


async def test_rows_are_waited_for_where_they_are_not_complete(card) -> None:
    await capture_rows(card.tensor(ROWS), None).wait()
    card.stream.late = True
    await capture_rows(card.tensor(ROWS), None).wait()
    assert [event.waits for event in card.stream.events] == [0, 1]


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda own: own.t(), ValueError, r"not contiguous.*\.contiguous\(\)"),
        (lambda own: own[:, ::2], ValueError, "not contiguous"),
        (lambda own: own.requires_grad_(), ValueError, r"\.detach\(\)"),
        (lambda own: own[None], ValueError, r"shape \(1, 2, 100\)"),
        (lambda own: own[0, 0], ValueError, r"shape \(\)"),
        (lambda own: own[:0], ValueError, r"shape \(0, 100\)"),
        (lambda own: own.view(torch.int32), TypeError, r"got torch.int32.*\.float\(\)"),
    ],
)
def test_what_cannot_be_read_where_it_lies_is_refused(card, make, kind, text) -> None:
    with pytest.raises(kind, match=text):
        capture_rows(make(card.tensor(ROWS)), None)


def test_no_dtype_is_converted(card) -> None:
    tensor = card.tensor(ROWS)
    assert capture_rows(tensor, "float32").dtype == capture_rows(tensor[0], "f32").dtype == "f32"
    assert capture_rows(card.tensor(torch.ones(2, 3, dtype=torch.bfloat16)), None).dtype == "bf16"
    with pytest.raises(ValueError, match="read as it is, f32; convert it there, not to f16"):
        capture_rows(tensor, "f16")
    with pytest.raises(ValueError, match="dtype must be one of"):
        capture_rows(tensor, "f8")
