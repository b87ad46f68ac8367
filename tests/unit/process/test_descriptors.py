"""A process without file descriptors: what it says, what it does, and that it recovers."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import numpy as np
import pytest

from samplerd_server.core.enums import Dtype
from samplerd_server.core.errors import UnavailableError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.expiry_timer import ExpiryTimer
from samplerd_server.distributions.folder import FolderStore
from samplerd_server.distributions.segment import size_of, write_segment
from samplerd_server.metrics.exporter import Exporter
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.patient_server import PatientServer
from samplerd_server.process.descriptors import DescriptorWatch
from tests.support.cdf_index import describe, segment_decoder


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let the process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(2)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_log_says_so_at_a_bounded_rate(caplog):
    now = [0.0]
    watch = DescriptorWatch(None, lambda: now[0])  # type: ignore[arg-type]  # it is not started
    caplog.set_level(logging.INFO)
    watch.look()
    assert caplog.messages == []
    with no_descriptors():
        for now[0] in range(0, 90, 1):
            watch.look()
    lost = "no file descriptor is left, so new connections wait"
    assert caplog.messages == [lost, lost]
    watch.look()
    watch.look()
    assert caplog.messages == [lost, lost, "file descriptors are left again"]


@pytest.fixture
def stores(tmp_path):
    arguments = {
        "max_count": 3,
        "max_bytes": 1 << 20,
        "clock": time.monotonic,
        "events": Metrics().distribution_events,
        "segment_decoder": segment_decoder(),
    }
    first, second = FolderStore(tmp_path, **arguments), FolderStore(tmp_path, **arguments)
    own = describe("words")
    memory = first.allocate(size_of(own, None))
    rows = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=4, data=np.arange(4, dtype="<f4").tobytes())
    write_segment(memory, own, rows, None)
    first.publish(memory)
    return first, second


def test_distributions_of_workers_are_unavailable_and_not_an_internal_error(stores):
    first, second = stores
    with no_descriptors():
        assert first.find("words").name == "words"  # it is mapped already
        for call in (
            lambda: second.find("words"),
            lambda: second.check("more", 1),
            lambda: second.allocate(1),
            lambda: first.delete("words"),
            second.names,
        ):
            with pytest.raises(UnavailableError, match="Too many open files"):
                call()
    assert second.find("words").name == "words"
    assert first.names() == ["words"]


class Loop:
    def call_later(self, _seconds: float, callback: object) -> object:
        self.callback = callback
        return self


def test_expired_distributions_are_freed_later(stores):
    loop = Loop()
    timer = ExpiryTimer(stores[0], loop)  # type: ignore[arg-type]  # what it uses of a loop
    timer.start()
    with no_descriptors():
        loop.callback()
    loop.callback()


def test_metrics_wait_for_a_descriptor_without_taking_a_core(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("samplerd_server.metrics.patient_server.time.sleep", waits.append)
    server = PatientServer(("127.0.0.1", 0), None, bind_and_activate=True)  # type: ignore[arg-type]
    with server, no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        server.get_request()
    assert waits == [0.1]


def test_the_exporter_is_patient():
    exporter = Exporter("127.0.0.1:0")
    port = exporter.start()
    try:
        assert isinstance(exporter._server, PatientServer)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            assert reply.status == 200
    finally:
        exporter.stop()
