"""All stored runs stand in the table of targets, not the best one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks.history import Spread, cells, record, spreads
from benchmarks.report import ROOT
from benchmarks.scenario import Target, titles

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = {"commit": "abc", "cpu_model": "a processor", "cores": 2, "load_average_1m": 0.1, "packages": {}}


def test_the_table_shows_the_median_and_the_spread_of_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "targets.jsonl"
    for day, value in enumerate((3.0, 1.0, 1.5)):
        record(path, "served", {**MACHINE, "date": f"day {day}"}, [Target(what="fast", value=value, bound=2)])
    record(path, "stream", {**MACHINE, "date": "day 0"}, [Target(what="fast", value=9, bound=2)])
    newest = Target(what="fast", value=3, bound=2, empty=4)
    shown = cells(newest, spreads(path, "served")["fast"])
    assert shown == ["fast (empty handler 4.00x)", ">= 2x", "3.00x", "1.50x", "1.00x", "3.00x", "3", "MISSED"]


def test_a_target_that_no_run_has_stored_stands_for_itself() -> None:
    assert cells(Target(what="fast", value=3, bound=2), None) == ["fast", ">= 2x", "3.00x", "", "", "", "0", "met"]


def test_a_run_is_stored_once_and_never_without_a_measured_number(tmp_path: Path) -> None:
    path = tmp_path / "targets.jsonl"
    for _ in range(2):
        record(path, "served", {**MACHINE, "date": "today"}, [Target(what="fast", value=3, bound=2)])
    record(path, "idle", {**MACHINE, "date": "today"}, [Target(what="small", value=float("nan"), bound=2)])
    assert spreads(path, "served") == {"fast": Spread((3.0,))}
    assert spreads(path, "idle") == {}


def test_the_stored_runs_name_scenarios_that_exist() -> None:
    lines = (ROOT / "benchmarks" / "results" / "targets.jsonl").read_text().splitlines()
    assert {json.loads(line)["scenario"] for line in lines} <= set(titles())
