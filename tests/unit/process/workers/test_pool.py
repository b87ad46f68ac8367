"""What a pool makes of workers that ended by themselves; whole pools are in tests/integration/test_workers.py."""

from __future__ import annotations

import asyncio

import pytest

from samplerd_server.config import ServerConfig, WorkersConfig
from samplerd_server.process.workers.aggregator import MetricsAggregator
from samplerd_server.process.workers.pool import WorkerPool, roles_of
from samplerd_server.process.workers.process import WorkerProcess


@pytest.mark.parametrize(("has_ended", "is_clean"), [(True, True), (False, False)], ids=["before the drain", "in it"])
async def test_a_worker_that_ended_before_the_drain_is_not_held_against_it(has_ended, is_clean, tmp_path):
    config = ServerConfig(workers=WorkersConfig(count=2))
    pool = WorkerPool(config, MetricsAggregator(["0", "1"]), tmp_path, {})
    killed, well = (slot.process for slot in pool._slots)
    for process in (killed, well):
        process.is_serving.set()
    well.is_clean = True
    if has_ended:
        killed.has_ended.set()
    assert await pool.drain(asyncio.Event()) is is_clean


def test_doors_come_before_the_engine_in_the_numbering():
    assert roles_of(ServerConfig(workers=WorkersConfig(doors=2))) == ("door", "door", "engine")
    assert roles_of(ServerConfig(workers=WorkersConfig(count=2))) == ("worker", "worker")


def test_a_worker_that_ended_is_told_nothing():
    """uvloop raises RuntimeError for what is written to a closed socket."""

    class Closed:
        def is_closing(self) -> bool:
            return True

        def write(self, _message: bytes) -> None:
            raise RuntimeError("the handler is closed")

    process = WorkerProcess(0)
    process._writer = Closed()  # type: ignore[assignment]
    process.go()
    process.ping()
