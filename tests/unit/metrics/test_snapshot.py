"""Snapshots: what a worker counted, over a Unix socket."""

from __future__ import annotations

import socket

import pytest

from samplerd_server.metrics.metrics import Metrics
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
    assert snapshot == decode(encode([metrics]))
    assert snapshot["samplerd_rows"]["samplerd_rows_total", (("path", "random"),)] == 3
    assert snapshot["samplerd_compute_seconds"]["samplerd_compute_seconds_sum", ()] == 0.5
    assert {family.name for family in metrics.collect()} == set(snapshot)


def test_one_that_hangs_up_does_not_disturb_the_next(served):
    _, path = served
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert decode(ask(path))


def test_half_an_answer_is_an_error(served):
    _, path = served
    with pytest.raises(ValueError, match=r"."):
        decode(ask(path)[:-2])
