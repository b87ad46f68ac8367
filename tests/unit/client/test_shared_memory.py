"""Regions of the client: slots hold what was put, never two requests', and nothing of a region is left behind."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import RegionFullError, SharedMemory, SharedMemoryRegion, Slot
from samplerd_client import shared_memory as module
from samplerd_client.arrays import as_rows
from samplerd_client.request import build
from tests.support.regions import FOLDER, PREFIX


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert list(FOLDER.glob(f"{PREFIX}{os.getpid()}-*")) == []


def region(**fields) -> SharedMemoryRegion:
    return SharedMemoryRegion(PREFIX, **{"slots": 2, "slot_bytes": 400, **fields})


def content(slot: Slot) -> bytes:
    """What a server would read."""
    message = slot.to_proto()
    with (FOLDER / message.key).open("rb") as file:
        return os.pread(file.fileno(), message.byte_size, message.offset)


@given(
    dtype=st.sampled_from(["f32", "f16", "bf16", "f64"]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50)
def test_a_slot_holds_what_was_put(dtype, shape, seed):
    array = np.random.default_rng(seed).normal(size=shape)
    with region() as memory:
        slots = [memory.put(array, dtype), memory.put(-array, dtype)]
        for slot, sent in zip(slots, (array, -array), strict=True):
            rows = as_rows(sent, dtype)
            message = slot.to_proto()
            assert content(slot) == bytes(rows.data)
            assert (message.dtype, message.rows, message.vocab_size) == (rows.dtype, *shape)
            assert message.byte_size == len(rows.data)


@pytest.mark.parametrize(("dtype", "kind"), [("f32", "<f4"), ("f16", "<f2"), ("bf16", "<u2"), ("f64", "<f8")])
def test_rows_may_be_written_in_place(dtype, kind):
    with region() as memory:
        slot = memory.reserve(3, 5, dtype)
        assert (slot.array.shape, slot.array.dtype.str) == ((3, 5), kind)
        slot.array[:] = np.arange(15).reshape(3, 5)
        assert content(slot) == np.arange(15).astype(kind).tobytes()


def test_slots_begin_on_pages_and_do_not_overlap():
    with region(slots=3, slot_bytes=5000) as memory:
        slots = [memory.put(np.full(1250, number, np.float32)) for number in range(3)]
        assert sorted(slot.to_proto().offset for slot in slots) == [0, 8192, 16384]
        for number, slot in enumerate(slots):
            assert content(slot) == np.full(1250, number, "<f4").tobytes()


def test_a_slot_is_free_again_once_released_left_or_forgotten():
    with region() as memory:
        first = memory.put([1.0])
        with memory.put([2.0]):
            assert memory.free_slots == 0
            with pytest.raises(RegionFullError, match="all 2 slots"):
                memory.put([3.0])
        assert memory.free_slots == 1
        first.release()
        first.release()
        assert memory.free_slots == 2
        memory.put([4.0])  # and forgotten
        gc.collect()
        assert memory.free_slots == 2


def test_a_request_holds_its_slot():
    with region() as memory:
        prepared = build(None, {"shared_memory": memory.put([1.0, 2.0]), "temperature": 0.5})
        gc.collect()
        assert memory.free_slots == 1
        request = pb.SampleRequest.FromString(prepared.encode(7))
        assert (request.id, request.shared_memory.key, request.params.temperature) == (7, memory.key, 0.5)
        del prepared
        gc.collect()
        assert memory.free_slots == 2


def test_equal_calls_name_their_own_rows():
    with region() as memory:
        prepared = [build(None, {"shared_memory": memory.put([1.0]), "top_k": 1, "seed": 3}) for _ in range(2)]
        offsets = [pb.SampleRequest.FromString(prepared.encode()).shared_memory.offset for prepared in prepared]
        assert sorted(offsets) == [0, 4096]
        assert prepared[0].template is prepared[1].template


@pytest.mark.parametrize("other", [{"logits": [1.0]}, {"distribution": "d"}, {"values": [[1.0]]}])
def test_shared_memory_is_the_only_source(other):
    with pytest.raises(ValueError, match="exactly once"):
        build(other.pop("logits", None), {"shared_memory": SharedMemory(key="k", rows=1, vocab_size=1), **other})


def test_threads_never_get_the_same_slot():
    memory = region(slots=3)
    faults: list[object] = []

    def work(number: int) -> None:
        for turn in range(300):
            try:
                slot = memory.put(np.full(100, 1000 * number + turn, np.float32))
            except RegionFullError:
                continue
            if not (slot.array == 1000 * number + turn).all():
                faults.append((number, turn))
            slot.release()

    with memory:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert memory.free_slots == 3
    assert faults == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda memory: memory.put(np.zeros(101, np.float32)), "101 numbers are 404 bytes; a slot holds 400"),
        (lambda memory: memory.reserve(2, 51), "a slot holds 400"),
        (lambda memory: memory.reserve(0, 1), "at least one row"),
        (lambda memory: memory.reserve(1, 0), "at least one row"),
        (lambda memory: memory.reserve(1, 1, "f8"), "dtype must be one of"),
        (lambda memory: memory.put([1.0], "f8"), "dtype must be one of"),
        (lambda memory: memory.put([]), "at least one row"),
    ],
)
def test_what_fits_no_slot_is_refused_and_takes_none(call, text):
    with region() as memory:
        with pytest.raises(ValueError, match=text):
            call(memory)
        assert memory.free_slots == 2


@pytest.mark.parametrize("fields", [{"slots": 0}, {"slot_bytes": 0}])
def test_a_region_holds_something(fields):
    with pytest.raises(ValueError, match="at least 1"):
        region(**fields)


def test_a_region_is_there_while_it_is_open_and_private():
    memory = region()
    path = FOLDER / memory.key
    assert memory.key.startswith(PREFIX)
    with pytest.raises(ValueError, match="not open"):
        memory.put([1.0])
    with memory:
        assert (path.stat().st_mode & 0o777, path.stat().st_size, path.stat().st_blocks) == (0o600, 8192, 16)
        slot = memory.put([1.0])
    assert not path.exists()
    with pytest.raises(ValueError, match="not open"):
        memory.put([1.0])
    assert slot.array[0, 0] == 1.0  # the memory lives as long as somebody looks at it
    slot.release()
    assert memory.free_slots == 0
    memory.close()


def test_the_mode_is_what_was_asked_for_whatever_the_umask():
    before = os.umask(0o077)
    try:
        with region(mode=0o640) as memory:
            assert (FOLDER / memory.key).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_where_there_is_no_room_nothing_is_left(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    memory = region()
    with pytest.raises(OSError, match="No space left"):
        memory.open()
    assert not (FOLDER / memory.key).exists()


def in_a_process(code: str) -> str:
    head = "from samplerd_client import SharedMemoryRegion\n"
    head += f"memory = SharedMemoryRegion({PREFIX!r}, slots=1, slot_bytes=4).open()\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_process_that_ends_without_closing_leaves_nothing_and_says_nothing():
    key = in_a_process("slot = memory.put([1.0])\nprint(memory.key)")
    assert key.startswith(PREFIX)
    assert not (FOLDER / key).exists()


def test_a_fork_neither_uses_nor_unlinks_its_parents_region():
    out = in_a_process(
        "import os, sys\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        memory.put([1.0])\n"
        "    except RuntimeError:\n"
        "        sys.exit(7)\n"  # through the interpreter's own end, where regions are unlinked
        "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        f"print(status, os.path.exists({str(FOLDER)!r} + '/' + memory.key))\n"
        "memory.put([1.0])\n"
    )
    assert out == "7 True"
