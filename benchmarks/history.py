"""What every stored run measured of each target: a line of JSON a run, so that no single run stands for all of them."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.scenario import Target

__all__ = ["HEADER", "NAME", "Spread", "cells", "record", "spreads"]

NAME = "targets.jsonl"
"""The file's name, in the folder of results."""
HEADER = ["target", "promised", "this run", "median of all", "lowest", "highest", "runs", ""]
"""Of the table of targets; the verdict is the median's."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What the stored runs measured of one target."""

    values: tuple[float, ...]
    """One a run, in the order of the file; at least one."""

    @property
    def median(self) -> float:
        """The middle one, or the mean of the middle two."""
        return statistics.median(self.values)


def record(path: Path, scenario: str, machine: Mapping[str, Any], targets: Iterable[Target]) -> None:
    """Append what one run measured; a run that the file has already, and one that measured no target, add nothing.

    Args:
        path: the file, which is made if it does not exist.
        scenario: the scenario's name.
        machine: where and when the run was, as `benchmarks.report.machine` gives it.
        targets: what was promised and measured.

    """
    values = {target.what: round(target.value, 4) for target in targets if target.value == target.value}
    if not values or (scenario, machine["date"]) in {(run["scenario"], run["date"]) for run in _runs(path)}:
        return
    about = {name: machine[name] for name in ("date", "commit", "cpu_model", "cores", "load_average_1m")}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"scenario": scenario, **about, "measured": values}) + "\n")


def spreads(path: Path, scenario: str) -> dict[str, Spread]:
    """Read what all stored runs of a scenario measured, by the target's words."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in _runs(path):
        if run["scenario"] == scenario:
            for what, value in run["measured"].items():
                found[what].append(value)
    return {what: Spread(tuple(values)) for what, values in found.items()}


def _runs(path: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def cells(target: Target, spread: Spread | None) -> list[str]:
    """Give a target's row in the table: its own cells, and the median, lowest and highest of all stored runs."""
    what, promised, measured, verdict = target.cells()
    if spread is None:
        return [what, promised, measured, "", "", "", "0", verdict]
    numbers = [target.written(value) for value in (spread.median, min(spread.values), max(spread.values))]
    return [what, promised, measured, *numbers, str(len(spread.values)), target.verdict(spread.median)]
