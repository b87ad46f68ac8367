"""Rows by their file: the engine finds what a door maps, whatever has become of the name."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from samplerd_server.core.errors import NotFoundError
from samplerd_server.distributions.by_file import FileStore
from samplerd_server.distributions.folder import FolderStore
from samplerd_server.distributions.segment import SegmentDecoder, size_of, write_segment
from samplerd_server.metrics.metrics import Metrics
from tests.support.cdf_index import describe
from tests.unit.distributions.test_store import ROWS


@pytest.fixture
def stores(tmp_path):
    """That of a door, and that of the engine."""
    common = {
        "max_count": 5,
        "max_bytes": 1 << 20,
        "clock": lambda: 1000.0,
        "events": Metrics().distribution_events,
        "segment_decoder": SegmentDecoder(params=lambda _: None, cdf_index=None),
    }
    return FolderStore(tmp_path, **common), FileStore(tmp_path, **common)


def upload(store, name="words"):
    own = describe(name)
    memory = store.allocate(size_of(own, None))
    write_segment(memory, own, ROWS, None)
    store.publish(memory)


def test_rows_are_found_by_their_file_while_their_name_lasts_and_after(stores):
    door, engine = stores
    upload(engine)
    found = door.find("words")
    assert found.file > 0
    assert bytes(engine.find_file("words", found.file).data) == bytes(found.data)
    door.delete("words")
    engine.free_expired()
    assert bytes(engine.find_file("words", found.file).data) == bytes(found.data)
    upload(door)
    again = door.find("words")
    assert again.file != found.file
    assert engine.find_file("words", again.file).file == again.file
    assert engine.find_file("words", found.file).file == found.file


def test_rows_that_nobody_maps_any_more_are_gone(stores):
    door, engine = stores
    upload(door)
    file = door.find("words").file
    door.delete("words")
    engine.free_expired()
    gc.collect()
    door.free_expired()
    with pytest.raises(NotFoundError):
        engine.find_file("words", file)


def test_a_file_of_a_part_of_the_rows_is_the_same(stores):
    _, engine = stores
    upload(engine)
    rows = engine.find("words")
    part = rows.part(0, 1)
    assert part.file == rows.file
    assert np.array_equal(np.frombuffer(part.data, np.uint8), np.frombuffer(rows.data, np.uint8)[: len(part.data)])
