"""The clock of distributions does not follow a system clock that is set."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from samplerd_server.app.stores import make_store, steady_time
from samplerd_server.config import LimitsConfig, ServerConfig, WorkerConfig
from samplerd_server.core.enums import Dtype
from samplerd_server.core.errors import NotFoundError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.segment import size_of, write_segment
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.transport.codec.decode import Decoder
from tests.support.cdf_index import describe

DAY_S = 86400.0
ROWS = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=4, data=np.arange(4, dtype="<f4").tobytes())


def test_it_tells_the_time_and_does_not_jump_with_the_system_clock(monkeypatch):
    before = steady_time()
    assert before == pytest.approx(time.time(), abs=60)
    monkeypatch.setattr("time.time", lambda: before + 1e6)
    assert 0 <= steady_time() - before < 60


class Clocks:
    """The clocks of one machine: the one that may be set, and the monotonic one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = time.time(), time.monotonic()
        monkeypatch.setattr("time.time", lambda: self.wall)
        monkeypatch.setattr("time.monotonic", lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def worker_store(folder, epoch_s):
    worker = WorkerConfig(
        index=0,
        count=2,
        control=9,
        metrics_socket="",
        started_at_s=epoch_s,
        epoch_s=epoch_s,
        distributions=str(folder),
    )
    decoder = Decoder(limits=LimitsConfig(), capabilities=capabilities())
    return make_store(replace(ServerConfig(), worker=worker), builder=None, decoder=decoder, metrics=Metrics())


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_system_clock_that_is_set_expires_nothing_that_workers_share(tmp_path, monkeypatch, jump_s):
    clocks = Clocks(monkeypatch)
    epoch_s = clocks.wall - clocks.monotonic
    stores = [worker_store(tmp_path, epoch_s)]
    own = describe("words", ttl_s=10.0)
    memory = stores[0].allocate(size_of(own, None))
    write_segment(memory, own, ROWS, None)
    _, expires = stores[0].publish(memory)
    clocks.wall += jump_s
    stores.append(worker_store(tmp_path, epoch_s))  # a worker that starts again after the jump
    for store in stores:
        store.free_expired()
        assert store.describe("words")[1] == pytest.approx(expires, abs=1e-3)
    clocks.pass_by(9.0)
    assert stores[1].find("words").name == "words"  # a use, which all see
    clocks.pass_by(9.0)
    stores[0].free_expired()
    assert [store.names() for store in stores] == [["words"], ["words"]]
    clocks.pass_by(1.5)
    for store in stores:
        with pytest.raises(NotFoundError):
            store.find("words")
