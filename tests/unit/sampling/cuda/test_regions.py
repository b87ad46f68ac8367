"""Rows out of other processes' memory on a card, over its double: the CPU's bits, whoever draws, and no memory kept."""

from __future__ import annotations

import dataclasses
import gc
import os
from typing import Any

import numpy as np
import pytest

from samplerd_server.batching.lost_rows import fail_lost
from samplerd_server.batching.pack import pack, unpack
from samplerd_server.batching.ticket_batch import failures
from samplerd_server.core.buffers import address_of
from samplerd_server.core.enums import Dtype
from samplerd_server.core.errors import InvalidRequestError, OverloadedError, UnavailableError
from samplerd_server.core.result import Timing
from samplerd_server.sampling.cuda.card import CardLostError, LaunchError
from samplerd_server.sampling.cuda.late_card import LateCard
from samplerd_server.sampling.cuda.sampler import CudaSampler
from samplerd_server.sampling.resumed import ResumedDraw
from samplerd_server.sampling.rows import LOST_ROW
from tests.support.card_memory import CardMemory
from tests.support.gpu_rows import same_bits
from tests.support.samplers import encode, make_sampler, params, request

ROOM = 4 << 20


@pytest.fixture
def sampler():
    own = CudaSampler(LateCard(), device_bytes=ROOM, locked_bytes=ROOM)
    own.warm_up()
    yield own
    own.close()


def asked(seed: int, dtype: Dtype = Dtype.F32, rows: int = 1, **own: Any) -> Any:
    x = np.random.default_rng(seed).normal(size=(rows, 601)) * 3
    own = {"num_samples": 2, "params": params(temperature=0.8), **own}
    return request(x, dtype, seed=seed, **own)


def move(sampler: CudaSampler, own: Any, address: int, **fields: Any) -> Any:
    """The same request with rows that are copied out of a region, at an address within it."""
    source = own.source
    data = sampler.regions.lease(source.size_bytes)
    sampler.regions.copy(address_of(data), address, source.size_bytes, "cuda_shared_memory")
    return dataclasses.replace(own, source=dataclasses.replace(source, data=data, address=address_of(data)), **fields)


def expect(got: Any, *requests: Any) -> None:
    same_bits(got, make_sampler("numba").sample(pack(requests)))


def is_empty(sampler: CudaSampler) -> bool:
    gc.collect()
    sampler.copied.free_unused()
    return (sampler.device.used_bytes, sampler.locked.used_bytes, sampler.copied.used_bytes) == (0, 0, 0)


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("offset", [0, 3])
def test_rows_are_drawn_where_they_were_copied_to(sampler, dtype, offset) -> None:
    own = asked(1, dtype, rows=3)
    with CardMemory(bytes(offset) + bytes(own.source.data)) as memory:
        address = sampler.regions.open(memory.handle, memory.size)
        here = move(sampler, own, address + offset)
        results = sampler.sample(pack([here]))
        expect(results, own)
        assert sampler.card.counts.copies == 0, "nothing came over the bus"
        assert sampler.card.counts.launches > 0
        sampler.regions.close(memory.handle)
    del here
    assert is_empty(sampler)


def test_rows_of_both_places_are_drawn_together_and_guide_each_other(sampler) -> None:
    by = encode(np.random.default_rng(9).normal(size=601))
    guided = asked(3, guidance=by, params=params(guidance_scale=1.5))
    requests = [asked(1), asked(2), guided]
    with CardMemory(bytes(requests[1].source.data) + bytes(by.data)) as memory:
        address = sampler.regions.open(memory.handle, memory.size)
        second = move(sampler, requests[1], address)
        lease = sampler.regions.lease(by.size_bytes)
        sampler.regions.copy(address_of(lease), address + requests[1].source.size_bytes, by.size_bytes, "guidance")
        third = dataclasses.replace(guided, guidance=dataclasses.replace(by, data=lease, address=address_of(lease)))
        expect(sampler.sample(pack([requests[0], second, third])), *requests)


def test_what_the_client_writes_later_is_not_drawn_from(sampler) -> None:
    own = asked(1)
    with CardMemory(bytes(own.source.data)) as memory:
        here = move(sampler, own, sampler.regions.open(memory.handle, memory.size))
        sampler.regions.close(memory.handle)  # which waits for the copy
        memory.write(0, bytes(memory.size))
        expect(sampler.sample(pack([here])), own)


def test_the_double_shows_who_closes_too_early(sampler, monkeypatch) -> None:
    monkeypatch.setattr(sampler.card, "_finish_copies", lambda: None)
    own = asked(1)
    with CardMemory(bytes(own.source.data)) as memory:
        here = move(sampler, own, sampler.regions.open(memory.handle, memory.size))
        sampler.regions.close(memory.handle)
        assert sampler.sample(pack([here])).status.tolist() == [LOST_ROW]


def test_the_double_shows_who_forgets_the_fence(sampler, monkeypatch) -> None:
    own = asked(1)
    with CardMemory(bytes(own.source.data)) as memory:
        here = move(sampler, own, sampler.regions.open(memory.handle, memory.size))
        monkeypatch.setattr(sampler.card, "fence", lambda: None)
        assert sampler.sample(pack([here])).status.tolist() == [1], "NaN"


def test_the_cpu_draws_what_the_card_does_not(sampler) -> None:
    """Many draws, of which the double makes few; and draws without replacement in slices."""
    many, sliced = asked(1, num_samples=200), asked(2, num_samples=40, with_replacement=False)
    with CardMemory(bytes(many.source.data) + bytes(sliced.source.data)) as memory:
        address = sampler.regions.open(memory.handle, memory.size)
        here = move(sampler, many, address)
        expect(sampler.sample(pack([here])), many)
        assert sampler.card.counts.launches == 0
        parts = move(sampler, sliced, address + many.source.size_bytes)
        draw, results = ResumedDraw(pack([parts])), None
        while results is None:
            draw.draws = 7
            results = sampler.resume(draw)
        expect(results, sliced)
    del here, parts, draw
    assert is_empty(sampler)


def test_a_batch_that_the_card_refuses_is_drawn_from_copies_on_the_host(sampler) -> None:
    requests = [asked(1), asked(2)]
    with CardMemory(bytes(requests[0].source.data)) as memory:
        here = move(sampler, requests[0], sampler.regions.open(memory.handle, memory.size))
        sampler.card.failures["launch"] = LaunchError("no")
        expect(sampler.sample(pack([here, requests[1]])), *requests)


def lose(sampler: CudaSampler) -> None:
    sampler.card.failures["wait"] = CardLostError("gone")


@pytest.mark.parametrize("when", ["at once", "later"])
def test_rows_that_are_lost_with_the_card_fail_their_request_alone(sampler, when) -> None:
    requests = [asked(1), asked(2, rows=2), asked(3)]
    with CardMemory(bytes(requests[1].source.data)) as memory:
        here = move(sampler, requests[1], sampler.regions.open(memory.handle, memory.size))
        lose(sampler)
        if when == "later":
            sampler.sample(pack([asked(4)]))
        mixed = [requests[0], here, requests[2]]
        results = sampler.sample(pack(mixed))
        assert results.status.tolist() == [0, LOST_ROW, LOST_ROW, 0]
        assert (results.samples[2:6] == -1).all()
        assert not list(failures(results))
        answers = unpack(mixed, results, [Timing(0.0, 0.0, 4)] * 3)
        first, second, third = fail_lost(mixed, results, answers)
        assert isinstance(second, UnavailableError)
        assert second.retryable
        expected = make_sampler("numba").sample(pack([requests[0], requests[2]]))
        assert [*first.samples, *third.samples] == expected.samples.tolist()
        with pytest.raises(UnavailableError, match=r"^cuda_shared_memory: memory of the card cannot be copied: gone$"):
            move(sampler, requests[1], sampler.regions.open(memory.handle, memory.size))


def test_a_slice_of_lost_rows_is_lost(sampler) -> None:
    own = asked(2, num_samples=40, with_replacement=False)
    with CardMemory(bytes(own.source.data)) as memory:
        here = move(sampler, own, sampler.regions.open(memory.handle, memory.size))
        lose(sampler)
        sampler.sample(pack([asked(1)]))
        draw = ResumedDraw(pack([here]))
        draw.draws = 7
        assert sampler.resume(draw).status.tolist() == [LOST_ROW]


def test_memory_that_its_owner_frees_too_early_costs_the_card_and_not_the_server(sampler) -> None:
    requests = [asked(1), asked(2)]
    with CardMemory(bytes(requests[0].source.data)) as memory:
        here = move(sampler, requests[0], sampler.regions.open(memory.handle, memory.size))
    results = sampler.sample(pack([here, requests[1]]))
    assert results.status.tolist() == [LOST_ROW, 0]
    assert sampler.numbers["device_lost"]()
    expect(sampler.sample(pack(requests)), *requests)


def test_rows_that_wait_take_a_share_and_no_more(sampler) -> None:
    share = ROOM // 4
    leases = [sampler.regions.lease(share // 2), sampler.regions.lease(share // 2)]
    assert sampler.numbers["device_waiting_bytes"]() == share
    with pytest.raises(OverloadedError, match="no device memory for 1 bytes") as caught:
        sampler.regions.lease(1)
    assert (caught.value.reason, caught.value.retryable) == ("DEVICE_MEMORY_FULL", True)
    view = leases[0][8:16]
    leases.clear()
    assert sampler.regions.lease(share // 2), "one is free again"
    assert view.nbytes == 8
    del view
    assert is_empty(sampler)


def test_batches_take_back_what_nobody_refers_to(sampler) -> None:
    lease = sampler.regions.lease(ROOM // 4)
    del lease
    gc.collect()
    wide = request(np.zeros(ROOM // 4 - 20_000), seed=1, params=params(temperature=0.8))  # with scratch, all but a bit
    sampler.sample(pack([wide]))
    assert sampler.copied.used_bytes == 0


# Handles.


def test_a_handle_is_opened_once_and_closed_after_the_last(sampler, monkeypatch) -> None:
    calls: list[str] = []
    for name in ("open_region", "close_region"):
        real = getattr(sampler.card, name)
        monkeypatch.setattr(sampler.card, name, lambda own, real=real, name=name: (calls.append(name), real(own))[1])
    with CardMemory(bytes(64)) as memory:
        first = sampler.regions.open(memory.handle, 64)
        assert sampler.regions.open(memory.handle, 32) == first
        with pytest.raises(InvalidRequestError, match="65 bytes are more than the 64"):
            sampler.regions.open(memory.handle, 65)
        sampler.regions.close(memory.handle)
        assert calls == ["open_region"]
        sampler.regions.close(memory.handle)
        sampler.regions.close(memory.handle)
        assert calls == ["open_region", "close_region"]


@pytest.mark.parametrize(
    ("handle", "text"),
    [(b"h" * 63, "has 63 bytes; a handle of CUDA has 64"), (b"h" * 64, "cannot be opened: it is no handle")],
)
def test_what_is_no_handle(sampler, handle, text) -> None:
    with pytest.raises(InvalidRequestError, match=text) as caught:
        sampler.regions.open(handle, 1)
    assert caught.value.field == "raw_handle"
    expect(sampler.sample(pack([asked(1)])), asked(1))
    assert sampler.card.counts.launches > 0, "the card goes on"


def test_memory_of_the_same_process_freed_memory_and_too_little(sampler) -> None:
    with CardMemory(bytes(64), owner=os.getpid()) as memory, pytest.raises(InvalidRequestError, match="its own"):
        sampler.regions.open(memory.handle, 64)
    with CardMemory(bytes(64)) as memory:
        with pytest.raises(InvalidRequestError, match="65 bytes are more than the 64 of the memory") as caught:
            sampler.regions.open(memory.handle, 65)
        assert caught.value.field == "byte_size"
    with pytest.raises(InvalidRequestError, match="the memory is not there"):
        sampler.regions.open(memory.handle, 64)


def test_the_end_closes_everything_and_opens_nothing_more(sampler) -> None:
    with CardMemory(bytes(64)) as memory:
        sampler.regions.open(memory.handle, 64)
        sampler.regions.close_all()
        assert not sampler.card._regions._open
        with pytest.raises(UnavailableError, match="shutting down"):
            sampler.regions.open(memory.handle, 64)


def test_results_are_written_and_bytes_fetched(sampler) -> None:
    with CardMemory(bytes(range(64))) as memory:
        address = sampler.regions.open(memory.handle, 64)
        sampler.regions.write(address + 8, b"result", "samples")
        assert memory.read(7, 8) == b"\7result\x0e"
        into = np.empty(4, np.uint8)
        sampler.regions.fetch(into.ctypes.data, address + 1, 4, "shared_memory")
        assert into.tolist() == [1, 2, 3, 4]
        sampler.card.failures["store"] = CardLostError("gone")
        with pytest.raises(UnavailableError, match=r"^samples: "):
            sampler.regions.write(address, b"result", "samples")
        with pytest.raises(UnavailableError, match=r"^field: "):
            sampler.regions.fetch(into.ctypes.data, address, 4, "field")
