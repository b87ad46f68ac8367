"""The aggregator: what workers answered and the supervisor itself counts, as one."""

from __future__ import annotations

import pytest

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.snapshot import SnapshotServer, last_counts
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
