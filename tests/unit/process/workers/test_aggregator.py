"""The aggregator: what workers answered and the supervisor itself counts, as one."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.snapshot import SnapshotServer, last_counts
from samplerd_server.process.workers import aggregator as aggregator_module
from samplerd_server.process.workers.aggregator import MetricsAggregator

ROWS = ("samplerd_rows_total", (("path", "greedy"),))


def of_worker(name, index):
    return (name, (("worker", str(index)),))


@pytest.mark.asyncio
async def test_workers_that_end_stay_counted_and_their_restarts_are_shown(tmp_path):
    aggregator = MetricsAggregator(["0", "1"])
    metrics = Metrics()
    metrics.rows.add(5, "greedy")
    first = SnapshotServer(str(tmp_path / "0.0"), metrics)
    first.start()
    try:
        aggregator.started(0, tmp_path / "0.0")
        merged = (await aggregator.take()).by_key()
    finally:
        first.stop()
    assert merged[ROWS] == 5
    assert [merged[of_worker("samplerd_worker_up", index)] for index in range(2)] == [1, 0]
    assert [merged[of_worker("samplerd_worker_restarts_total", index)] for index in range(2)] == [0, 0]

    aggregator.ended(0)
    assert not (tmp_path / "0.0").exists()
    aggregator.started(0, tmp_path / "0.1")
    merged = (await aggregator.take()).by_key()
    assert merged[ROWS] == 5
    assert [merged[of_worker("samplerd_worker_up", index)] for index in range(2)] == [0, 0]
    assert merged[of_worker("samplerd_worker_restarts_total", 0)] == 1
    assert merged["process_start_time_seconds", ()]


@pytest.mark.asyncio
async def test_what_was_counted_after_the_last_answer_outlives_a_worker_that_ends_by_itself(tmp_path):
    aggregator, metrics, path = MetricsAggregator(["0"]), Metrics(), tmp_path / "0.0"
    worker = SnapshotServer(str(path), metrics)
    worker.start()
    aggregator.started(0, path)
    metrics.rows.add(5, "greedy")
    assert (await aggregator.take()).by_key()[ROWS] == 5
    metrics.rows.add(2, "greedy")
    worker.stop()
    aggregator.ended(0)
    assert (await aggregator.take()).by_key()[ROWS] == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.asyncio
async def test_a_worker_that_was_killed_while_it_wrote_its_last_counts_stays_counted_with_its_last_answer(tmp_path):
    aggregator, metrics, path = MetricsAggregator(["0"]), Metrics(), tmp_path / "0.0"
    worker = SnapshotServer(str(path), metrics)
    worker.start()
    aggregator.started(0, path)
    metrics.rows.add(5, "greedy")
    assert (await aggregator.take()).by_key()[ROWS] == 5
    worker.stop()
    half = last_counts(path).read_bytes()[:100]
    last_counts(path).write_bytes(half)
    aggregator.ended(0)
    assert (await aggregator.take()).by_key()[ROWS] == 5
    assert list(tmp_path.iterdir()) == []


class Watched:
    """The metrics of a worker, and how many workers were read at once."""

    lock = threading.Lock()
    reading = most = 0

    def __init__(self):
        self._metrics = Metrics()

    def read(self):
        with self.lock:
            Watched.reading += 1
            Watched.most = max(Watched.most, Watched.reading)
        time.sleep(0.002)  # long enough for another to begin
        snapshot = self._metrics.read()
        with self.lock:
            Watched.reading -= 1
        return snapshot


@pytest.fixture
def workers(tmp_path):
    """Four workers, of which the second hangs."""
    Watched.most = 0
    aggregator = MetricsAggregator(["0", "1", "2", "3"])
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(tmp_path / "1"))
        hangs.listen()
        servers = [SnapshotServer(str(tmp_path / name), Watched()) for name in ("0", "2", "3")]
        for server in servers:
            server.start()
        for index in range(4):
            aggregator.started(index, tmp_path / str(index))
        yield aggregator
        for server in servers:
            server.stop()


async def ups(aggregator):
    merged = (await aggregator.take()).by_key()
    return [merged[of_worker("samplerd_worker_up", index)] for index in range(4)]


@pytest.mark.asyncio
async def test_a_worker_that_hangs_keeps_no_other_from_being_asked(workers):
    assert await ups(workers) == [1, 0, 1, 1]


@pytest.mark.asyncio
async def test_workers_are_asked_one_after_the_other(workers, monkeypatch):
    monkeypatch.setattr(aggregator_module, "_TURN_S", 60.0)  # however busy this machine is
    assert await ups(workers) == [1, 0, 1, 1]
    assert Watched.most == 1
