"""What is made of measurements: differences of scrapes, stacks, tables, files, pictures."""

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import plots
from benchmarks.check import expect_all_ok
from benchmarks.load import LoadError
from benchmarks.report import markdown, text_table, write_json
from benchmarks.rounds import ratio
from benchmarks.scenarios import (
    coalescing,
    concurrency,
    distributions,
    failover,
    idle,
    kernels,
    latency,
    memory,
    metrics_cost,
    served,
    stream,
    unix_socket,
)
from benchmarks.scrape import Reading, parse_metrics

BEFORE = """\
# TYPE samplerd_requests_total counter
samplerd_requests_total{rpc="Sample",code="OK"} 10.0
# TYPE samplerd_rows_total counter
samplerd_rows_total{path="random"} 10.0
samplerd_rows_total{path="greedy"} 1.0
# TYPE samplerd_batch_rows histogram
samplerd_batch_rows_bucket{le="1.0"} 2.0
samplerd_batch_rows_bucket{le="+Inf"} 4.0
samplerd_batch_rows_count 4.0
samplerd_batch_rows_sum 11.0
"""
AFTER = """\
# TYPE samplerd_requests_total counter
samplerd_requests_total{rpc="Sample",code="OK"} 110.0
samplerd_requests_total{rpc="Sample",code="INTERNAL"} 0.0
# TYPE samplerd_rows_total counter
samplerd_rows_total{path="random"} 110.0
samplerd_rows_total{path="greedy"} 1.0
# TYPE samplerd_batch_rows histogram
samplerd_batch_rows_bucket{le="1.0"} 2.0
samplerd_batch_rows_bucket{le="+Inf"} 9.0
samplerd_batch_rows_count 9.0
samplerd_batch_rows_sum 111.0
"""


@pytest.fixture
def grown() -> Reading:
    return parse_metrics(AFTER) - parse_metrics(BEFORE)


def test_growth_between_two_scrapes(grown: Reading) -> None:
    assert grown.total("samplerd_rows_total") == 100
    assert grown.total("samplerd_rows_total", path="greedy") == 0
    assert grown.mean("samplerd_batch_rows") == 20
    assert math.isnan((parse_metrics(AFTER) - parse_metrics(AFTER)).mean("samplerd_batch_rows"))
    with pytest.raises(KeyError):
        grown.total("samplerd_no_such_total")


def test_expect_all_ok(grown: Reading) -> None:
    expect_all_ok(grown, 100)
    expect_all_ok(grown, 100, rows=100)
    with pytest.raises(LoadError, match="of 101 requests"):
        expect_all_ok(grown, 101)
    with pytest.raises(LoadError, match="with 3200 rows"):
        expect_all_ok(grown, 100, rows=3200)


def test_a_failed_call_is_noticed(grown: Reading) -> None:
    failed = AFTER.replace('code="INTERNAL"} 0.0', 'code="INTERNAL"} 1.0')
    with pytest.raises(LoadError):
        expect_all_ok(parse_metrics(failed) - parse_metrics(BEFORE), 100)


def test_stacks_are_shared_out_by_thread() -> None:
    stacks = (
        "thread (0x7F01): MainThread;main (a/__main__.py:1);observe (server/samplerd_server/metrics/metrics.py:9) 3\n"
        "thread (0x7F01): MainThread;main (a/__main__.py:1);draw (a/b.py:2) 97\n"
        "thread (0x7F02): Thread-1 (serve);collect (x/prometheus_client/registry.py:5) 5\n"
    )
    samples, counting = metrics_cost.parse_stacks(stacks)
    assert samples == {"MainThread": 100, "Thread-1 (serve)": 5}
    assert counting == {"MainThread": 3, "Thread-1 (serve)": 5}


def test_tables() -> None:
    header, rows = ["V", "rate"], [["1,024", "5"], ["2", "5,000"]]
    assert text_table(header, rows) == "V       rate\n-----  -----\n1,024      5\n2      5,000"
    assert markdown(header, rows) == "| V | rate |\n| --- | ---: |\n| 1,024 | 5 |\n| 2 | 5,000 |"


def side(rows_per_s: float) -> dict[str, Any]:
    figures = {
        "calls_per_s": rows_per_s,
        "rows_per_s": rows_per_s,
        "cpu_us_per_row": 240.0,
        "mean_batch_rows": 3.5,
        "compute_us_per_row": 4.0,
        "latency_ms": {"p50": 11.0, "p99": 20.0},
    }
    return {**figures, "rounds": [figures]}


def served_result() -> dict[str, Any]:
    def shape(vocab_size: int, rows: int, grpcio: float) -> dict[str, Any]:
        rates = {"empty f32": 5000.0, "grpcio f32": grpcio, "empty bf16": 6000.0, "grpcio bf16": 1.5 * grpcio}
        return {
            "vocab_size": vocab_size,
            "rows": rows,
            "ratios": {"grpcio f32": grpcio / 5000, "grpcio bf16": 1.5 * grpcio / 6000},
            "bf16_over_f32": {"grpcio": 1.5},
            "measured": {name: side(rate) for name, rate in rates.items()},
        }

    sizes = (1_024, 32_768, 131_072)
    shapes = [shape(1_024, 1, 4000), shape(32_768, 1, 4000), shape(131_072, 1, 4500)]
    shapes += [shape(size, 32, 4300) for size in sizes]
    return {"note": "n", "transports": ["grpcio"], "shapes": shapes}


def stream_result() -> dict[str, Any]:
    measured = {"empty": side(9000.0), "envoy": side(6000.0)}
    size = {"vocab_size": 1_024, "measured": measured, "ratios": {"envoy": 2 / 3}, "over_unary": {"envoy": 1.3}}
    return {"transports": ["envoy"], "sizes": [size]}


def unix_result() -> dict[str, Any]:
    rates = {"empty tcp": 4.0, "empty unix": 5.0, "grpcio tcp": 2.0, "grpcio unix": 3.0}
    measured = {name: side(rate) for name, rate in rates.items()}
    size = {"vocab_size": 1_024, "measured": measured, "ratios": {"empty": 1.25, "grpcio": 1.5}}
    return {"transports": ["grpcio"], "sizes": [size]}


def concurrency_result() -> dict[str, Any]:
    curve = {
        "transport": "envoy",
        "vocab_size": 1_024,
        "in_flight": [8, 64, 512],
        "measured": {"8": side(800.0), "64": side(1000.0), "512": side(950.0)},
        "lowest_over_highest": 0.8,
        "last_over_highest": 0.95,
    }
    empty = {**curve, "transport": "empty envoy", "lowest_over_highest": 0.5}
    empty["measured"] = {level: side(2000.0) for level in curve["measured"]}
    for entry in empty["measured"].values():
        del entry["mean_batch_rows"]
    return {"curves": [empty, curve]}


def idle_result() -> dict[str, Any]:
    entry = {"transport": "grpcio", "core_share": 0.02, "rss_bytes": 300 << 20, "pss_bytes": 200 << 20}
    return {"servers": [{**entry, "processes": 1, "start_s": 2.0}]}


def failover_result() -> dict[str, Any]:
    entry = {"calls": 100, "large_calls": 3, "lost": {}, "wrong": 0, "attempts": 1}
    lossy = {**entry, "lost": {"UnavailableError": 2}}
    return {"note": "n", "measured": {"deploy/envoy": {**entry, "retries": 4}, "the client's balancing": lossy}}


def memory_result() -> dict[str, Any]:
    entry = {
        "transport": "envoy",
        "requests": 10,
        "before_bytes": 300 << 20,
        "after_bytes": 303 << 20,
        "growth": 0.01,
        "series": [(0, 300 << 20), (10, 303 << 20)],
    }
    return {"servers": [entry]}


def latency_result() -> dict[str, Any]:
    def cell(name: str, vocab_size: int, share: float, p99: float) -> dict[str, Any]:
        figures = {"p50": 1.0, "p90": 2.0, "p99": p99, "p99.9": 9.0}
        own = {"name": name, "vocab_size": vocab_size, "share": share, "spread": "even", "rate": 5.0}
        return {**own, "latency_ms": figures, "lag_ms": figures, "p99_over_p50": p99, "curve_ms": [1.0] * 10}

    panels = [(size, share) for size in (1_024, 32_768) for share in (0.5, 0.8)]
    p99 = {"empty": 9.0, "grpcio": 2.9, "envoy": 3.1}
    return {"cells": [cell(name, *panel, p99[name]) for panel in panels for name in p99]}


def kernels_result() -> dict[str, Any]:
    line = {"name": "a", "first_us": 9.0, "second_us": 3.0, "ratio": 3.0}
    ratios = [{**line, "target": ">= 2"}, {**line, "target": "<= 2.5"}]
    differing = [{"vocab_size": 1_000, "draws": 100, "differ": 0}]
    return {"ratios": ratios, "samples_per_s_of_1000000_categories": 2e7, "differing_from_reference": differing}


def coalescing_result() -> dict[str, Any]:
    def load(vocab_size: int, in_flight: int, ratio: float) -> dict[str, Any]:
        names = ("calls_per_s", "calls_per_request", "client_cpu_us", "server_cpu_us", "p50_ms", "p99_ms")
        entry = dict.fromkeys(names, 3.0)
        measured = {mode: {**entry, "rounds": [entry]} for mode in coalescing.MODES}
        own = {"vocab_size": vocab_size, "in_flight": in_flight, "transport": "grpcio"}
        return {**own, "ratio": ratio, "measured": measured}

    return {"note": "n", "loads": [load(1_024, 1, 1.0), load(1_024, 64, 6.0), load(1_024, 256, 4.0), load(9, 64, 1.0)]}


def distributions_result() -> dict[str, Any]:
    rates = {"table": [20.0, 30.0], "row": [1.0, 1.0], "making_ms": 2.0, "memory_bytes": 5 << 20}
    engine = [{"name": "logits", **rates}, {"name": "weights", **rates, "table": [9.0]}]
    return {"engine": engine, "served": [{"transport": "envoy", "rates": [4.0, 6.0, 5.0]}]}


RESULTS = [
    (distributions, distributions_result()),
    (coalescing, coalescing_result()),
    (kernels, kernels_result()),
    (latency, latency_result()),
    (served, served_result()),
    (stream, stream_result()),
    (unix_socket, unix_result()),
    (concurrency, concurrency_result()),
    (failover, failover_result()),
    (idle, idle_result()),
    (memory, memory_result()),
]


def verdicts(module: ModuleType, result: dict[str, Any]) -> list[bool]:
    return [target.is_met for target in module.SCENARIO.targets(result)]


@pytest.mark.parametrize(("module", "result"), RESULTS)
def test_tables_are_rectangles(module: ModuleType, result: dict[str, Any]) -> None:
    header, rows = module.SCENARIO.table(json.loads(json.dumps(result)))
    assert rows
    assert {len(row) for row in rows} == {len(header)}


def test_result_tables() -> None:
    first = served.table(served_result())[1][0]
    assert first[:4] == ["V = 1,024, 1 a call, grpcio f32", "4,000 (5,000)", "0.80", "3.5"]
    assert memory.table(memory_result())[1] == [["envoy", "10", "300.0", "303.0", "+1.00 %"]]
    assert unix_socket.table(unix_result())[1][1][:3] == ["V = 1,024, grpcio", "3 (2)", "1.50"]


def test_targets_of_served_rows() -> None:
    # One row: 0.80 of 0.8, 0.80 of 0.85, 0.90 of 0.85, bf16 1.5 of 1.4; 32 rows: 0.86 of 0.85.
    assert verdicts(served, served_result()) == [True, False, True, True, True]


def test_targets_of_latency_growth_idleness_and_load() -> None:
    assert verdicts(latency, latency_result()) == [True, False]
    assert verdicts(kernels, kernels_result()) == [True, False, True]
    assert verdicts(memory, memory_result()) == [True]
    assert verdicts(distributions, distributions_result()) == [True, False, True]
    assert verdicts(idle, idle_result()) == [False, True]
    assert verdicts(coalescing, coalescing_result()) == [True, False]
    assert verdicts(concurrency, concurrency_result()) == [False, True]


def test_targets_of_streams() -> None:
    assert verdicts(stream, stream_result()) == [True]  # 1.3 of 1.2
    grpcio = {"vocab_size": 32_768, "ratios": {"grpcio": 0.94}, "over_unary": {"grpcio": 0.5}}
    assert verdicts(stream, {"sizes": [grpcio]}) == [False]  # 0.94 of 0.95; unary calls hold envoy alone
    before = stream_result()["sizes"][0]
    del before["over_unary"]
    assert verdicts(stream, {"sizes": [before]}) == []


def test_a_target_names_what_the_empty_handler_reaches() -> None:
    def floors(module: ModuleType, result: dict[str, Any]) -> list[float | None]:
        return [target.empty for target in module.SCENARIO.targets(result)]

    assert floors(concurrency, concurrency_result()) == [0.5, 0.95]
    assert floors(served, served_result())[3] == pytest.approx(1.2)
    cells = latency_result()["cells"]
    cells.append({**cells[-1], "name": "empty envoy", "share": 0.5, "p99_over_p50": 2.5})
    assert floors(latency, {"cells": cells})[-1] == 2.5


def test_a_ratio_is_the_median_of_each_rounds_own() -> None:
    rounds = {"a": [10.0, 30.0, 8.0], "b": [10.0, 10.0, 4.0]}
    measured = {name: {"rounds": [{"rows_per_s": rate} for rate in rates]} for name, rates in rounds.items()}
    assert ratio(measured, "a", "b") == 2.0


@pytest.mark.parametrize(
    ("module", "result"), [(module, result) for module, result in RESULTS if module.SCENARIO.figure is not None]
)
def test_pictures(module: ModuleType, result: dict[str, Any], tmp_path: Path) -> None:
    png, svg = plots.save(tmp_path, "picture", module.SCENARIO.figure(result))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()


def test_results_say_where_they_come_from(tmp_path: Path) -> None:
    written = json.loads(write_json(tmp_path / "new", "served", served_result()).read_text())
    assert written["benchmark"] == "served"
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["packages"]["grpcio"]
    assert written["machine"]["date"].endswith("+00:00")
    assert written["shapes"][0]["rows"] == 1


def test_failover_targets() -> None:
    assert verdicts(failover, failover_result()) == [True, False]
