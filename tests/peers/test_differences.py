"""10,000 random rows and 2,000 rows on boundaries for each peer: whatever differs from the reference has a named rule.

Seeds: 1 for the random rows and their parameters, 2 for the boundaries. Counts by rule are printed: `-s` shows them.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.peers.cases import Case, cases, draw
from tests.peers.compare import compare
from tests.peers.environments import ENVIRONMENTS, Environment
from tests.peers.rows import SHARES, SIZES, boundaries, random_row
from tests.peers.systems import SYSTEMS, System

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.peer, pytest.mark.timeout(3_600)]

RANDOM_ROWS, BOUNDARY_ROWS = 10_000, 2_000
_WORKER_S = 1_800.0

Row = tuple[np.ndarray, dict[str, Any]]


def ask(name: str, rows: list[Row], folder: Path) -> list[np.ndarray]:
    """Give rows and parameters to a system's worker; what it draws from comes back, a row each."""
    return ask_worker(ENVIRONMENTS[name], rows, folder)


def ask_worker(environment: Environment, rows: list[Row], folder: Path) -> list[np.ndarray]:
    """The same of any environment."""
    assert environment.python.exists(), f"{environment.system} is not installed: make test-peers"
    sizes = sorted({len(row) for row, _ in rows})
    jobs, arrays = [], {}
    for size in sizes:
        own = [(row, drawn) for row, drawn in rows if len(row) == size]
        arrays[f"rows_{size}"] = np.stack([row for row, _ in own])
        jobs.append({"rows": f"rows_{size}", "params": [drawn for _, drawn in own]})
    given, answer = folder / "in.npz", folder / "out.npz"
    np.savez(given, jobs=json.dumps(jobs), **arrays)
    command = [str(environment.python), str(environment.worker), str(given), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_WORKER_S, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-4_000:]
    with np.load(answer) as answers:
        left = {size: iter(answers[f"weights_{number}"]) for number, size in enumerate(sizes)}
    return [next(left[len(row)]) for row, _ in rows]


def hold(system: System, titled: list[tuple[str, Row]], folder: Path) -> None:
    """Compare all rows, print how many differ by which rule, and fail with the first that nothing explains."""
    answers = ask(system.name, [row for _, row in titled], folder)
    verdicts: Counter[str] = Counter()
    unexplained: list[str] = []
    for (title, (row, drawn)), weights in zip(titled, answers, strict=True):
        try:
            verdicts[compare(row, drawn, system, weights)] += 1
        except AssertionError as error:
            unexplained.append(f"{title}: {error}")
    print(f"\n{system.title} {system.version}: {len(titled):,} rows, {len(unexplained)} unexplained")
    for verdict, count in verdicts.most_common():
        print(f"  {count:6,} {verdict}")
    assert not unexplained, f"{len(unexplained)} of {len(titled)} rows, such as\n" + "\n".join(unexplained[:5])


def random_rows(system: System) -> list[tuple[str, Row]]:
    """Spread the rows over all cases of a system."""
    rng = np.random.default_rng(1)
    own: tuple[Case, ...] = cases(system)
    titled = []
    for number in range(RANDOM_ROWS):
        case = own[number % len(own)]
        sizes = (
            SIZES[1:] if {"no_repeat_ngram_size", "bad_words"} & {*case.names} else SIZES
        )  # these may forbid all of 6
        shares = np.array(SHARES[-len(sizes) :])
        row = random_row(rng, int(rng.choice(sizes, p=shares / shares.sum())))
        titled.append((case.title, (row, draw(case, rng, len(row), system))))
    return titled


def boundary_rows(system: System) -> list[tuple[str, Row]]:
    """Spread the rows over all kinds of boundaries that the system has filters for."""
    rng = np.random.default_rng(2)
    own = boundaries(system)
    return [(own[number % len(own)].name, own[number % len(own)].draw(rng)) for number in range(BOUNDARY_ROWS)]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_random_rows_differ_by_named_rules_alone(name: str, tmp_path: Path) -> None:
    hold(SYSTEMS[name], random_rows(SYSTEMS[name]), tmp_path)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_rows_on_boundaries_differ_by_named_rules_alone(name: str, tmp_path: Path) -> None:
    hold(SYSTEMS[name], boundary_rows(SYSTEMS[name]), tmp_path)
