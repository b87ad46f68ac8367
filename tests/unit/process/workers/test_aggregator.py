"""The aggregator: what workers answered and the supervisor itself counts, as one."""

from __future__ import annotations

import pytest

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.snapshot import SnapshotServer
from samplerd_server.process.workers.aggregator import MetricsAggregator

ROWS = ("samplerd_rows_total", (("path", "greedy"),))


def of_worker(name, index):
    return (name, (("worker", str(index)),))


@pytest.mark.asyncio
async def test_workers_that_end_stay_counted_and_their_restarts_are_shown(tmp_path):
    aggregator = MetricsAggregator(2)
    metrics = Metrics()
    metrics.rows.add(5, "greedy")
    first = SnapshotServer(str(tmp_path / "0.0"), metrics)
    first.start()
    try:
        aggregator.started(0, tmp_path / "0.0")
        merged = await aggregator.take()
    finally:
        first.stop()
    assert merged["samplerd_rows"][ROWS] == 5
    up, restarts = merged["samplerd_worker_up"], merged["samplerd_worker_restarts"]
    assert [up[of_worker("samplerd_worker_up", index)] for index in range(2)] == [1, 0]
    assert list(restarts.values()) == [0, 0]

    aggregator.ended(0)
    assert not (tmp_path / "0.0").exists()
    aggregator.started(0, tmp_path / "0.1")
    merged = await aggregator.take()
    assert merged["samplerd_rows"][ROWS] == 5
    assert list(merged["samplerd_worker_up"].values()) == [0, 0]
    assert merged["samplerd_worker_restarts"][of_worker("samplerd_worker_restarts_total", 0)] == 1
    assert merged["process_start_time_seconds"]
