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
from benchmarks.scenarios import memory, metrics_cost, served
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
    with pytest.raises(LoadError, match="of 101 calls"):
        expect_all_ok(grown, 101)


def test_a_failed_call_is_noticed(grown: Reading) -> None:
    failed = AFTER.replace('code="INTERNAL"} 0.0', 'code="INTERNAL"} 1.0')
    with pytest.raises(LoadError):
        expect_all_ok(parse_metrics(failed) - parse_metrics(BEFORE), 100)


def test_stacks_are_shared_out_by_thread() -> None:
    stacks = (
        "thread (0x7F01): MainThread;main (a/__main__.py:1);observe (server/samplerd_server/metrics.py:9) 3\n"
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


def served_result() -> dict[str, Any]:
    side = {"rate": 4000.0, "cpu_us_per_call": 240.0, "latency_ms": {"p50": 11.0, "p99": 20.0}}
    ours = {**side, "mean_batch_rows": 3.5, "compute_us_per_row": 4.0, "mean_queue_wait_us": 100.0}
    rounds = [{"empty": {"rate": 5000.0}, "samplerd": {"rate": 4000.0}, "ratio": 0.8}]
    size = {"vocab_size": 1024, "ratio": 0.8, "empty": {**side, "rate": 5000.0}, "samplerd": ours, "rounds": rounds}
    return {"note": "n", "sizes": [size]}


def memory_result() -> dict[str, Any]:
    series = [(0, 300 << 20), (10, 303 << 20)]
    return {
        "requests": 10,
        "before_bytes": 300 << 20,
        "after_bytes": 303 << 20,
        "growth": 0.01,
        "is_flat": True,
        "series": series,
    }


def test_result_tables() -> None:
    assert served.table(served_result())[1][0][:5] == ["1,024", "5,000", "4,000", "0.80", "3.5"]
    assert memory.table(memory_result())[1] == [["10", "300.0", "303.0", "+1.00 %", "yes"]]


@pytest.mark.parametrize(("module", "result"), [(served, served_result()), (memory, memory_result())])
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
    assert written["sizes"][0]["ratio"] == 0.8
