"""Every accepted row has exactly one answer, whatever is killed; `make history` tries more faults, for longer."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.history_faults import FAULTS, Scene, record
from tests.support.processes import children

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_killed_worker_and_then_a_drain_lose_nothing_that_was_drawn(tmp_path):
    scene = Scene(tmp_path, "grpcio", workers=2)
    callers = await scene.start()
    async with callers:
        os.kill(children(scene.daemon.process.pid)[0], signal.SIGKILL)
        await callers.more(100)
        assert await scene.uploaded(callers) == []
        assert scene.history.lost() == []
        scene.look()
        scene.daemon.process.send_signal(signal.SIGTERM)
        await scene.ended()
    assert scene.code == 0
    assert scene.left() == []
    codes = FAULTS["SIGTERM"].codes("grpcio")
    assert scene.history.check(scene.journal.drawn(), codes=codes, killed=True) == []


async def test_a_killed_supervisor_of_envoy_loses_nothing_that_was_drawn(tmp_path):
    faults, counts = await record(tmp_path, "envoy", "kill -9 of Envoy's supervisor")
    assert faults == []
    # grpc.aio's client drops what it has not read when it writes to a stream that has ended: those may be missing.
    missing = counts["rows_drawn"] - counts["rows_answered"]
    assert counts["rows_answered"] > 0
    assert 0 <= missing <= counts["rows_that_may_be_cut"]
