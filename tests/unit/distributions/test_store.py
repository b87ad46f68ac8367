"""What a store holds, what it counts, and when it lets go."""

from __future__ import annotations

import gc
import math
import shutil

import numpy as np
import pytest

from samplerd_server.core.enums import Dtype
from samplerd_server.core.errors import AlreadyExistsError, Code, FullError, NotFoundError, UnavailableError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.folder import FolderStore
from samplerd_server.distributions.segment import size_of, write_segment
from samplerd_server.distributions.store import MemoryStore
from samplerd_server.metrics.metrics import Metrics
from tests.support.cdf_index import describe, segment_decoder

ROWS = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=4, data=np.arange(4, dtype="<f4").tobytes())
SIZE = size_of(describe(), None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return Metrics().distribution_events


@pytest.fixture(params=["memory", "folder"])
def store(request, clock, events, tmp_path):
    arguments = {
        "max_count": 3,
        "max_bytes": 10 * SIZE,
        "clock": clock,
        "events": events,
        "segment_decoder": segment_decoder(),
    }
    return MemoryStore(**arguments) if request.param == "memory" else FolderStore(tmp_path, **arguments)


def create(store, name="words", **fields):
    own = describe(name, **fields)
    memory = store.allocate(size_of(own, None))
    write_segment(memory, own, ROWS, None)
    return store.publish(memory)


def test_what_was_created_is_found_with_its_numbers(store):
    segment, expires = create(store)
    rows = store.find("words")
    assert bytes(rows.data) == ROWS.data
    assert (rows.name, rows.rows, rows.vocab_size, rows.first, rows.cdf_index) == ("words", 1, 4, 0, None)
    assert (segment.description, segment.size_bytes, expires) == (describe(), SIZE, 1010.0)
    assert (store.count, store.size_bytes) == (1, SIZE)


def test_parts_of_rows_are_views(store):
    own = describe(rows=3)
    memory = store.allocate(size_of(own, None))
    numbers = np.arange(12, dtype="<f4")
    write_segment(memory, own, DenseRows(dtype=Dtype.F32, rows=3, vocab_size=4, data=numbers.tobytes()), None)
    store.publish(memory)
    part = store.find("words").part(1, 3).part(1, 2)
    assert (part.rows, part.first) == (1, 2)
    assert np.frombuffer(part.data, "<f4").tolist() == [8, 9, 10, 11]


def test_binary64_is_kept_as_binary32(store):
    own = describe()
    memory = store.allocate(size_of(own, None))
    source = DenseRows(dtype=Dtype.F64, rows=1, vocab_size=4, data=np.array([0.1, 2, -np.inf, 4], "<f8").tobytes())
    write_segment(memory, own, source, None)
    segment, _ = store.publish(memory)
    assert segment.rows.dtype is Dtype.F32
    assert np.frombuffer(segment.rows.data, "<f4").tolist() == [np.float32(0.1), 2, -np.inf, 4]


def test_a_name_is_taken_until_it_is_deleted(store, events):
    create(store)
    for ask in (lambda: store.check("words", SIZE), lambda: create(store)):
        with pytest.raises(AlreadyExistsError, match="named words already"):
            ask()
    store.delete("words")
    create(store)
    assert (events.value("created"), events.value("deleted")) == (2, 1)


@pytest.mark.parametrize("ask", ["find", "describe", "delete"])
def test_an_unknown_name_is_not_found(store, ask):
    with pytest.raises(NotFoundError, match="no distribution named verbs"):
        getattr(store, ask)("verbs")


def test_there_may_be_so_many_and_no_more(store):
    for name in "abc":
        create(store, name)
    memory = store_full(store, 1)
    assert "of at most 3" in memory
    store.delete("b")
    create(store, "d")
    assert store.names() == ["a", "c", "d"]


def store_full(store, size):
    with pytest.raises(FullError) as caught:
        store.allocate(size)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert not caught.value.retryable
    return caught.value.message


def test_memory_is_bounded_in_bytes_and_given_back_when_nothing_was_published(store):
    memory = store.allocate(9 * SIZE)
    assert f"{9 * SIZE} of {10 * SIZE} are in use already" in store_full(store, SIZE + 1)
    with pytest.raises(FullError):
        store.check("words", SIZE + 1)
    create(store)
    assert store.size_bytes == 10 * SIZE
    del memory
    assert store.size_bytes == SIZE
    store.allocate(9 * SIZE)


def test_two_makers_of_one_name_leave_one_and_give_back_the_others_memory(store):
    both = [store.allocate(SIZE) for _ in range(2)]
    for memory in both:
        write_segment(memory, describe(), ROWS, None)
    store.publish(both[0])
    with pytest.raises(AlreadyExistsError):
        store.publish(both[1])
    del memory
    both.clear()
    assert store.size_bytes == SIZE


def test_too_many_at_the_end_is_too_many(store):
    early = store.allocate(SIZE)
    write_segment(early, describe("late"), ROWS, None)
    for name in "abc":
        create(store, name)
    with pytest.raises(FullError):
        store.publish(early)


def test_what_was_deleted_lives_and_counts_while_somebody_draws_from_it(store):
    create(store)
    rows = store.find("words")
    held = np.frombuffer(rows.data, np.uint8)  # as a batch holds it
    store.delete("words")
    assert (store.count, store.size_bytes) == (0, SIZE)
    del rows
    gc.collect()
    assert (store.size_bytes, held.tobytes()) == (SIZE, ROWS.data)
    del held
    store.free_expired()
    assert store.size_bytes == 0


def test_idle_time_ends_it_and_use_extends_it(store, clock, events):
    create(store)
    clock.now += 9
    store.find("words")
    clock.now += 9
    assert store.describe("words")[1] == 1019.0
    clock.now += 1
    for ask in (store.find, store.describe, store.delete):
        with pytest.raises(NotFoundError):
            ask("words")
    assert (store.count, store.size_bytes, events.value("expired"), events.value("used")) == (0, 0, 1, 1)


def test_being_described_is_no_use(store, clock):
    create(store)
    clock.now += 9
    store.describe("words")
    assert store.names() == ["words"]
    clock.now += 1
    assert store.names() == []


def test_a_sweep_frees_what_has_expired_and_nothing_else(store, clock):
    create(store, "a")
    create(store, "b", ttl_s=20.0)
    create(store, "c", ttl_s=math.inf)
    clock.now += 15
    store.free_expired()
    assert (store.count, store.size_bytes) == (2, 2 * SIZE)
    clock.now += 1e9
    store.free_expired()
    assert store.names() == ["c"]
    assert store.describe("c")[1] == math.inf


def test_the_name_of_an_expired_one_is_free(store, clock):
    create(store)
    memory = store.allocate(SIZE)
    write_segment(memory, describe(), ROWS, None)
    clock.now += 11
    store.publish(memory)
    store.find("words")


def test_room_that_expired_ones_take_is_free(store, clock):
    for name in "abc":
        create(store, name)
    clock.now += 11
    store.check("d", 10 * SIZE)
    create(store, "d")


def test_parameters_are_counted_and_decoded_once(clock, events):
    decoded = []
    store = MemoryStore(
        max_count=3, max_bytes=1 << 20, clock=clock, events=events, segment_decoder=segment_decoder("params")
    )
    own = describe(params=b"x" * 10_000)
    memory = store.allocate(size_of(own, None))
    write_segment(memory, own, ROWS, None)
    segment, _ = store.publish(memory)
    assert segment.size_bytes > 30_000
    assert segment.description.params == b"x" * 10_000
    decoded.append(store.find("words").params)
    assert decoded == ["params"]


def test_a_worker_whose_folder_went_with_its_supervisor_sends_callers_elsewhere(clock, events, tmp_path):
    folder = tmp_path / "distributions"
    folder.mkdir()
    store = FolderStore(
        folder, max_count=3, max_bytes=10 * SIZE, clock=clock, events=events, segment_decoder=segment_decoder()
    )
    create(store)
    shutil.rmtree(folder)

    for call in (
        lambda: store.check("more", SIZE),
        lambda: store.allocate(SIZE),
        lambda: store.delete("words"),
        store.names,
        store.free_expired,
    ):
        with pytest.raises(UnavailableError, match="cannot be looked up now"):
            call()
