"""Regions: what is read is what is there now; whatever else a client puts there is refused with its field, at once."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import signal
import socket
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.errors import (
    Code,
    InvalidRequestError,
    NotFoundError,
    NotImplementedFieldError,
    PermissionDeniedError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_shared_memory import decode_shared_memory
from samplerd_server.transport.shared_memory import reader as module
from samplerd_server.transport.shared_memory.reader import SharedMemoryReader
from tests.support.regions import PREFIX, Region, open_descriptors

LIMITS = LimitsConfig(max_rows=8, max_vocab_size=1000)
MAX_BYTES = 1 << 16
NOBODY = 65534


def reader(max_bytes: int = MAX_BYTES) -> SharedMemoryReader:
    return SharedMemoryReader(PREFIX, max_bytes=max_bytes, metrics=Metrics())


def read(memory: pb.SharedMemory, regions: SharedMemoryReader | None = None) -> bytes:
    rows, load = decode_shared_memory(memory, LIMITS, regions or reader())
    load()
    return bytes(rows.data)


def refusal(memory: pb.SharedMemory, regions: SharedMemoryReader | None = None) -> SamplerdError:
    with pytest.raises(SamplerdError) as caught:
        read(memory, regions)
    assert open_descriptors() == []
    return caught.value


def field(memory: pb.SharedMemory, regions: SharedMemoryReader | None = None) -> str:
    error = refusal(memory, regions)
    assert isinstance(error, InvalidRequestError), error
    return error.field


ONE = np.zeros((1, 1), "<f4")


# What is read.


@given(
    dtype=st.sampled_from(["<f4", "<f2", "<u2", "<f8"]),
    rows=st.integers(1, 8),
    vocab_size=st.integers(1, 40),
    offset=st.integers(0, 9000),
    after=st.integers(0, 20),
    seed=st.integers(0, 2**32),
)
def test_rows_of_any_place_and_shape_are_those_that_lie_there(dtype, rows, vocab_size, offset, after, seed):
    itemsize = np.dtype(dtype).itemsize
    content = np.random.default_rng(seed).bytes(offset + rows * vocab_size * itemsize + after)
    array = np.frombuffer(content, dtype, rows * vocab_size, offset).reshape(rows, vocab_size)
    with Region(content) as region:
        got, load = decode_shared_memory(region.rows(array, offset), LIMITS, reader())
        load()
    assert (got.rows, got.vocab_size, got.dtype.itemsize, got.size_bytes) == (rows, vocab_size, itemsize, array.nbytes)
    assert bytes(got.data) == array.tobytes()


@given(
    size=st.integers(0, 64),
    offset=st.integers(0, 70) | st.integers(0, 2**64 - 1),
    byte_size=st.integers(0, 64) | st.integers(0, 2**64 - 1),
    rows=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    vocab_size=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    dtype=st.integers(-1, 5),
)
def test_wild_numbers_give_the_bytes_that_lie_there_or_an_error_of_a_field(
    size, offset, byte_size, rows, vocab_size, dtype
):
    content = bytes(range(size))
    memory = pb.SharedMemory(offset=offset, byte_size=byte_size, rows=rows, vocab_size=vocab_size, dtype=dtype)  # type: ignore[arg-type]
    with Region(content) as region:
        memory.key = region.key
        is_sound = dtype in range(5) and rows <= 8 and 1 <= vocab_size <= 1000 and offset + byte_size <= size
        if is_sound and byte_size == (rows or 1) * vocab_size * {2: 2, 3: 2, 4: 8}.get(dtype, 4):
            assert read(memory) == content[offset : offset + byte_size]
        else:
            assert field(memory).startswith("shared_memory.")


def test_no_rows_means_one_and_a_leading_slash_is_optional():
    with Region(ONE.tobytes()) as region:
        for key in (region.key, "/" + region.key):
            assert read(region.rows(ONE, rows=0, key=key)) == bytes(4)


def test_a_region_is_seen_as_it_now_is():
    regions = reader()
    first, second = np.full((1, 2), 1, "<f4"), np.full((1, 2), 2, "<f4")
    with Region(first.tobytes()) as region:
        memory = region.rows(first)
        assert read(memory, regions) == first.tobytes()
        region.path.unlink()  # and made anew: another file of the same name
        assert isinstance(refusal(memory, regions), NotFoundError)
        region.path.write_bytes(second.tobytes())
        assert read(memory, regions) == second.tobytes()
        os.truncate(region.path, 4)
        assert field(memory, regions) == "shared_memory.byte_size"
        os.truncate(region.path, 1 << 20)
        assert read(memory, regions) == second.tobytes()[:4] + bytes(4)


def test_nothing_of_a_region_is_held():
    regions = reader()
    for _ in range(3 * 256):
        with Region(ONE.tobytes()) as region:
            read(region.rows(ONE), regions)
    assert open_descriptors() == []


def test_reads_are_counted():
    metrics = Metrics()
    regions = SharedMemoryReader(PREFIX, max_bytes=MAX_BYTES, metrics=metrics)
    with Region(bytes(100)) as region:
        read(region.rows(np.zeros((5, 5), "<f4")), regions)
        refusal(region.rows(np.zeros((5, 6), "<f4")), regions)
    refusal(region.rows(ONE), regions)
    assert metrics.shared_memory_bytes.value() == 100
    assert metrics.shared_memory_errors.value("invalid_argument") == 1
    assert metrics.shared_memory_errors.value("not_found") == 1


# What is refused before anything is opened.


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "//", "//a", "a/b", "..", ".", "../a", "a/../b", "a\0b", "a b", "a\n", "é", "a" * 256),
        *("-/", "/../", "-..", "-a/../../etc/passwd", "-\0", "-a\n"),
    ],
)
def test_a_key_that_is_no_name_is_refused_and_nothing_is_opened(name, monkeypatch):
    monkeypatch.setattr(module.os, "open", lambda *_: pytest.fail("opened"))
    key = PREFIX + name if name.startswith("-") else name
    assert field(pb.SharedMemory(key=key, byte_size=4, vocab_size=1)) == "shared_memory.key"


@pytest.mark.parametrize("key", ["other", PREFIX[:-1], "/other", PREFIX.upper() + "a", "a" + PREFIX])
def test_a_key_outside_the_prefix_is_denied_and_nothing_is_opened(key, monkeypatch):
    monkeypatch.setattr(module.os, "open", lambda *_: pytest.fail("opened"))
    error = refusal(pb.SharedMemory(key=key, byte_size=4, vocab_size=1))
    assert error.code is Code.PERMISSION_DENIED
    assert PREFIX in error.message


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"dtype": 9}, "dtype"),
        ({"rows": 9, "byte_size": 36}, "rows"),
        ({"vocab_size": 0, "byte_size": 0}, "vocab_size"),
        ({"vocab_size": 1001, "byte_size": 4004}, "vocab_size"),
        ({"byte_size": 0}, "byte_size"),
        ({"byte_size": 3}, "byte_size"),
        ({"byte_size": 2**64 - 1}, "byte_size"),
    ],
)
def test_bad_numbers_are_refused_with_their_field(change, path):
    with Region(bytes(1 << 13)) as region:
        assert field(region.rows(ONE, **change)) == f"shared_memory.{path}"


def test_a_request_takes_no_more_than_the_limit():
    with Region(bytes(400)) as region:
        assert read(region.rows(np.zeros((1, 100), "<f4")), reader(400)) == bytes(400)
        assert field(region.rows(np.zeros((1, 100), "<f4")), reader(399)) == "shared_memory.byte_size"


def test_the_path_of_the_field_is_the_callers():
    with pytest.raises(InvalidRequestError) as caught:
        decode_shared_memory(pb.SharedMemory(key="/"), LIMITS, reader(), "target.shared_memory")
    assert caught.value.field == "target.shared_memory.key"


def test_a_server_without_a_prefix_says_which_flag_it_takes():
    decoder = Decoder(limits=LIMITS, capabilities=frozenset())
    with pytest.raises(NotImplementedFieldError) as caught:
        decoder.decode(pb.SampleRequest(shared_memory=pb.SharedMemory(key="/")))
    assert caught.value.name == "shared_memory"
    assert "--shared-memory-prefix" in caught.value.message


def test_nothing_is_read_before_the_request_is_let_in():
    with Region(ONE.tobytes()) as region:
        decoder = Decoder(limits=LIMITS, capabilities=frozenset(), regions=reader())
        request = decoder.decode(pb.SampleRequest(shared_memory=region.rows(ONE)))
        region.path.write_bytes(np.ones(1, "<f4").tobytes())
        assert request.load is not None
        request.load()
        assert bytes(request.source.data) == np.ones(1, "<f4").tobytes()


# What is not where, or what, it should be.


@pytest.mark.parametrize(
    ("offset", "numbers", "path"),
    [(0, 26, "byte_size"), (1, 25, "byte_size"), (100, 1, "byte_size"), (101, 1, "offset"), (2**64 - 1, 1, "offset")],
)
def test_rows_beyond_the_end_are_refused(offset, numbers, path):
    with Region(bytes(100)) as region:
        assert field(region.rows(np.zeros((1, numbers), "<f4"), offset)) == f"shared_memory.{path}"


def test_an_empty_region_holds_no_row():
    with Region(b"") as region:
        assert field(region.rows(ONE)) == "shared_memory.byte_size"


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(ONE.tobytes())
    with Region(None) as region:
        region.path.symlink_to(tmp_path / "secret")
        assert field(region.rows(ONE)) == "shared_memory.key"


def test_a_second_name_of_another_region_is_refused():
    with Region(ONE.tobytes(), name="another-" + PREFIX) as another, Region(None) as region:
        region.path.hardlink_to(another.path)
        assert field(region.rows(ONE)) == "shared_memory.key"


def test_what_is_no_file_is_refused_at_once():
    with Region(None) as region:
        region.path.mkdir()
        assert field(region.rows(ONE)) == "shared_memory.key"
    with Region(None) as region:
        os.mkfifo(region.path)  # nobody writes: a plain open would wait for ever
        assert field(region.rows(ONE)) == "shared_memory.key"
    with Region(None) as region, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(region.path))
        assert field(region.rows(ONE)) == "shared_memory.key"


def test_a_lease_makes_nobody_wait():
    # Its owner would have 45 s to give it back, while the server waits.
    with Region(ONE.tobytes()) as region, region.path.open("r+b") as file:
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            with pytest.raises(InvalidRequestError, match=os.strerror(errno.EAGAIN)):
                read(region.rows(ONE))
        finally:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)
        assert read(region.rows(ONE)) == ONE.tobytes()


def test_a_region_that_the_server_may_not_read_is_denied():
    with Region(ONE.tobytes()) as region:
        region.path.chmod(0)
        user = os.geteuid()
        if user == 0:  # root reads everything
            os.seteuid(NOBODY)
        try:
            error = refusal(region.rows(ONE))
        finally:
            os.seteuid(user)
        assert isinstance(error, PermissionDeniedError)
        assert error.message.startswith("shared_memory.key: ")


@pytest.mark.parametrize("after", [0, 5000])
def test_a_region_that_is_cut_while_it_is_read_is_an_error_of_its_field(monkeypatch, after):
    fstat = os.fstat

    def cut(descriptor):
        status = fstat(descriptor)
        os.truncate(region.path, after)
        return status

    with Region(bytes(8000)) as region:
        monkeypatch.setattr(module.os, "fstat", cut)
        error = refusal(region.rows(np.zeros((2, 1000), "<f4")))
        monkeypatch.undo()
        assert error.message == f"shared_memory.byte_size: the region was cut after {after} bytes while it was read"


def test_short_reads_are_continued(monkeypatch):
    preadv = os.preadv
    content = bytes(range(200))
    with Region(content) as region:
        monkeypatch.setattr(module.os, "preadv", lambda fd, into, offset: preadv(fd, [into[0][:7]], offset))
        got = read(region.rows(np.zeros((1, 48), "<f4"), 3))
        monkeypatch.undo()
    assert got == content[3 : 3 + 192]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EMFILE, UnavailableError),
        (errno.ENFILE, UnavailableError),
        (errno.ENOMEM, UnavailableError),
        (errno.EIO, InvalidRequestError),
        (errno.EACCES, PermissionDeniedError),
    ],
)
@pytest.mark.parametrize("call", ["open", "preadv"])
def test_a_failing_system_call_is_an_error_of_ours(monkeypatch, number, kind, call):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    if (call, number) == ("preadv", errno.EACCES):
        kind = InvalidRequestError
    with Region(ONE.tobytes()) as region:
        monkeypatch.setattr(module.os, call, fail)
        with pytest.raises(kind):
            read(region.rows(ONE))
        monkeypatch.undo()
    assert open_descriptors() == []


def test_regions_are_where_the_system_keeps_them():
    memory = SharedMemory(create=True, size=4, name=PREFIX + secrets.token_hex(8))  # by shm_open(3)
    try:
        assert read(pb.SharedMemory(key=memory.name, byte_size=4, vocab_size=1)) == bytes(4)
    finally:
        memory.close()
        memory.unlink()
