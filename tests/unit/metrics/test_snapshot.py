"""Snapshots: what a worker counted, over a Unix socket."""

from __future__ import annotations

import socket

import pytest

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.series import Family, Layout, Snapshot
from samplerd_server.metrics.snapshot import SnapshotServer, decode, encode


@pytest.fixture
def served(tmp_path):
    metrics = Metrics()
    server = SnapshotServer(str(tmp_path / "s"), metrics)
    server.start()
    yield metrics, tmp_path / "s"
    server.stop()
    server.stop()


def ask(path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_everything_that_is_counted_is_said(served):
    metrics, path = served
    metrics.rows.add(3, "random")
    metrics.compute_seconds.observe(0.5)
    snapshot = decode(ask(path))
    assert snapshot.by_key() == metrics.read().by_key()
    assert snapshot.by_key()["samplerd_rows_total", (("path", "random"),)] == 3
    assert snapshot.by_key()["samplerd_compute_seconds_sum", ()] == 0.5
    assert snapshot.layout.families == metrics.read().layout.families


def test_names_are_read_once_until_a_series_is_added(served):
    metrics, path = served
    before, again = decode(ask(path)), decode(ask(path))
    assert again.layout is before.layout
    metrics.rows.add(3, "a path of another release")
    more = decode(ask(path))
    assert len(more.values) == len(before.values) + 1
    assert more.by_key() == metrics.read().by_key()


def test_one_that_hangs_up_does_not_disturb_the_next(served):
    _, path = served
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert decode(ask(path)).values


def test_half_an_answer_is_an_error(served):
    _, path = served
    whole = ask(path)
    decode(whole)
    for size in (0, 10, 100, len(whole) - 2):
        with pytest.raises(ValueError, match="a snapshot"):
            decode(whole[:size])


def test_a_metric_of_another_release_is_an_error():
    later = Family("samplerd_later", "Later.", "gauge", (("samplerd_later", ()),))
    with pytest.raises(ValueError, match="does not have: samplerd_later"):
        decode(encode(Snapshot(Layout([later]), [1.0])))
