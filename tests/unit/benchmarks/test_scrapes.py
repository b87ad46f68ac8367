"""Which servers the costs of a scrape are measured of."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

from benchmarks.scenario import Options
from benchmarks.scenarios import scrapes as module


def test_scrapes_are_measured_of_both_transports_alone_and_with_eight_workers(monkeypatch) -> None:
    started = []

    @contextlib.contextmanager
    def start(*flags, transport):
        started.append((transport, *flags))
        yield SimpleNamespace(port=1)

    took = {"calls": 1, "p50": 1.0, "p99": 2.0, "p99.9": 3.0, "max": 4.0}
    measured = {"series": 1, "cpu_ms": 1.0, "worker_cpu_ms": 1.0}
    monkeypatch.setattr(module, "SamplerServer", start)
    monkeypatch.setattr(module, "checked_reply", lambda *_: None)
    monkeypatch.setattr(module, "sample_request", lambda *_: None)
    monkeypatch.setattr(module, "_measure", lambda *_: measured)
    monkeypatch.setattr(module, "_felt", lambda *_: {"beside_ms": took, "quiet_ms": took})
    result = module.SCENARIO.run(print, Options(quick=True, transports=("grpcio", "envoy")))
    monkeypatch.undo()
    wanted = [(transport, "--workers", count) for transport in ("grpcio", "envoy") for count in ("1", "8")]
    assert started == wanted
    assert [target.is_met for target in module.SCENARIO.targets(result)] == [True] * 12
