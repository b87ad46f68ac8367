"""What a scenario is, and which there are: every module of `benchmarks/scenarios` that defines `SCENARIO`.

A scenario is found by its file alone: its name is the module's, its title the first line of the module's docstring.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["ON_REQUEST", "TRANSPORTS", "Options", "Result", "Scenario", "Table", "Target", "load_scenario", "titles"]

FOLDER = Path(__file__).parent / "scenarios"
TRANSPORTS = ("grpcio", "envoy")
ON_REQUEST = frozenset({"engines", "peers", "perf_analyzer"})
"""Run only where they are named: they need more than the project installs."""

Result: TypeAlias = dict[str, Any]
"""What a scenario measured; it is stored as JSON."""
Table: TypeAlias = tuple[list[str], list[list[str]]]
"""A header and rows of as many cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks of every scenario."""

    quick: bool = False
    """Seconds instead of minutes: shows that everything runs, gives no figure to quote."""
    transports: tuple[str, ...] = TRANSPORTS
    """Which of samplerd's transports to measure."""
    memory_requests: int = 1_000_000
    """How many calls the scenario `memory` sends, to each transport."""
    against: Path | None = None
    """Another checkout, whose servers the scenario `idle` starts in turns with ours; None = none."""
    peers: tuple[str, ...] = ()
    """Which peers the scenario `peers` measures; none named: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One promise and what was measured of it."""

    what: str
    """What is promised, in words, with its V and transport."""
    value: float
    """What was measured, in the unit of the promise."""
    bound: float
    """The promise."""
    at_most: bool = False
    """The value may not exceed the bound; otherwise it may not fall below."""
    unit: str = "x"
    """Behind both numbers: "x" for a ratio."""
    empty: float | None = None
    """What the same run measured of a handler that does nothing, which a server on top of it can hardly better."""

    @property
    def is_met(self) -> bool:
        """Whether the promise holds; a value that is not a number meets none."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def verdict(self, value: float) -> str:
        """Say whether a value in place of the measured one meets the promise."""
        return "met" if replace(self, value=value).is_met else "MISSED"

    def written(self, value: float) -> str:
        """Write a value with the unit of the promise."""
        return f"{value:,.2f}{self._behind}"

    @property
    def _behind(self) -> str:
        return self.unit if self.unit in {"x", "%"} else f" {self.unit}"

    def cells(self) -> list[str]:
        """Give what stands in a table: what, promise, measured, verdict."""
        sign = "<=" if self.at_most else ">="
        beside = "" if self.empty is None else f" (empty handler {self.written(self.empty)})"
        return [
            self.what + beside,
            f"{sign} {self.bound:g}{self._behind}",
            self.written(self.value),
            self.verdict(self.value),
        ]


def _no_targets(_: Result) -> Iterable[Target]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing to measure."""

    run: Callable[[Progress, Options], Result]
    """Measures."""
    table: Callable[[Result], Table]
    """Lays out what was measured; also of a result that was read from a file."""
    targets: Callable[[Result], Iterable[Target]] = _no_targets
    """Holds what was measured against the promises."""
    figure: Callable[[Result], Figure] | None = None
    """Draws it."""


def titles(folder: Path = FOLDER) -> dict[str, str]:
    """Find every scenario: its title by its name, in alphabetical order, without importing any."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
            found[path.stem] = docstring.partition("\n")[0].rstrip(".")
    return found


def load_scenario(name: str) -> Scenario:
    """Import a scenario.

    Raises:
        TypeError: its module does not define `SCENARIO`.

    """
    module = importlib.import_module(f"benchmarks.scenarios.{name}")
    scenario = getattr(module, "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        raise TypeError(f"{module.__name__} must define SCENARIO = Scenario(...)")
    return scenario
