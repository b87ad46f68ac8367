"""The stages of a traced call: they add up to what its caller waited, and groups keep slow calls apart."""

import urllib.request

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks import spans
from benchmarks.load import LoadError
from benchmarks.open_loop import Outcome
from benchmarks.scenarios.slow_call import SCENARIO, STAGES, _cell, cut
from benchmarks.spans import CallSpan, Collector


def test_the_stages_of_a_call_add_up_to_its_latency() -> None:
    outcome = Outcome(
        latencies_s=np.array([1.0, 0.250]),
        lags_s=np.array([0.0, 0.010]),
        is_answered=np.ones(2, bool),
        began_s=5.0,
        elapsed_s=2.0,
    )
    events_s = {"wait": 1006.05, "batch": 1006.07, "compute": 1006.10, "encode": 1006.17}
    span = CallSpan(began_s=1006.02, events_s=events_s, compute_s=0.04, ended_s=1006.20)
    stages = cut(outcome, np.array([0.0, 1.0]), 1, span, 1000.0)
    assert stages == pytest.approx([0.01, 0.01, 0.03, 0.02, 0.03, 0.04, 0.03, 0.03, 0.05])
    assert len(stages) == len(STAGES)
    assert sum(stages) == pytest.approx(0.250)


def test_slow_calls_are_told_apart_from_usual_ones() -> None:
    stages = np.zeros((200, len(STAGES)))
    stages[:, 0] = np.linspace(0.001, 0.002, 200)
    stages[7, 3] = stages[90, 3] = stages[140, 3] = stages[150, 3] = 0.5
    cell = _cell(1_024, "grpcio", 100.0, stages, [{"p50": 1.0, "p90": 1.0, "p99": 1.0, "p99.9": 1.0}])
    assert cell["groups"]["slow"]["stages_ms"][3] == pytest.approx(500.0)
    assert cell["groups"]["slow"]["call_ms"][3] == pytest.approx(500.0)
    assert cell["groups"]["usual"]["stages_ms"][3] == 0.0
    assert cell["groups"]["usual"]["stages_ms"][0] == pytest.approx(1.5, rel=0.05)
    result = {"stages": list(STAGES), "cells": [cell]}
    header, rows = SCENARIO.table(result)
    assert {len(row) for row in rows} == {len(header)}
    assert SCENARIO.figure is not None
    assert len(SCENARIO.figure(result).axes[0].patches) == 2 * len(STAGES)


def test_a_collector_gives_the_spans_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    call = scope.spans.add(
        name="samplerd.v1.SamplerService/Sample", start_time_unix_nano=1_000_000_000, end_time_unix_nano=3_000_000_000
    )
    call.trace_id = (7).to_bytes(16, "big")
    computed = call.events.add(name="compute", time_unix_nano=2_000_000_000)
    computed.attributes.add(key="seconds").value.double_value = 0.5
    scope.spans.append(Span(name="batch", trace_id=(7).to_bytes(16, "big")))  # of another trace, as a rule
    monkeypatch.setattr(spans, "_WAIT_S", 0.2)
    with Collector() as collector:
        urllib.request.urlopen(f"{collector.url}/v1/traces", request.SerializeToString()).close()
        own = CallSpan(began_s=1.0, events_s={"compute": 2.0}, compute_s=0.5, ended_s=3.0)
        assert collector.wait_for([7]) == {7: own}
        with pytest.raises(LoadError, match="1 of 1 spans have not come"):
            collector.wait_for([8])
