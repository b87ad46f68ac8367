"""`SamplingParams.like` of each system beside the system's whole pipeline, with nothing set but what a user sets.

n = 4,000 rows of each system, 3,000 random ones and 1,000 of bfloat16, where equal numbers are common; seed 3. Null:
what is kept is the same, or differs by a rule that no field of the contract expresses. Rules that `like` claims to
express must not occur at all.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.peers.cases import cases, draw
from tests.peers.compare import SAME, compare
from tests.peers.environments import ENVIRONMENTS
from tests.peers.presets import filled_in, under_preset
from tests.peers.rows import bfloat16_row, random_row
from tests.peers.systems import SYSTEMS, System
from tests.peers.test_differences import ask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.peer, pytest.mark.timeout(3_600)]

RANDOM_ROWS, EQUAL_ROWS = 3_000, 1_000
SIZES, SHARES = (50, 400, 5_000), (0.5, 0.495, 0.005)
EXPRESSED = {
    "hugging_face": ("top_k keeps all", "typical_p keeps all", "the order of the steps"),
    "vllm": ("top_k keeps all", "the order of the steps"),
    "llama.cpp": ("the order of the steps",),
    "sglang": ("no such",),
    "mlx-lm": ("top_p keeps all", "xtc keeps all", "the order of the steps"),
}
"""By system: the differences that the preset's order and its rule about equals take away, by their first words."""

Row = tuple[np.ndarray, dict[str, Any]]


def user_rows(system: System) -> list[tuple[str, Row]]:
    """Rows with what a user sets: the parameters of a case, a long history, and most often a temperature."""
    rng = np.random.default_rng(3)
    own = [case for case in cases(system) if "penalty_range" not in case.names]  # its default is what is held here
    titled = []
    for number in range(RANDOM_ROWS + EQUAL_ROWS):
        case = own[number % len(own)]
        has_equals = number >= RANDOM_ROWS
        row = (
            bfloat16_row(rng)
            if has_equals
            else random_row(rng, int(rng.choice([50, 400, 5_000], p=[0.5, 0.495, 0.005])))
        )
        drawn = draw(case, rng, len(row), system)
        if "history" in drawn:
            earlier = rng.integers(0, len(row), int(rng.integers(0, 90))).tolist()
            drawn["history"] = [*earlier, *drawn["history"]]
            if "prompt_length" in drawn:
                drawn["prompt_length"] += len(earlier)
        if has_equals or rng.random() < 0.8:
            drawn.setdefault("temperature", float(rng.choice([0.7, 1.0])))
        elif rng.random() < 0.5 and "dynamic_temperature_range" not in drawn:
            drawn["temperature"] = float(rng.choice([0.0, 0.004, 1e-7]))
        titled.append((case.title, (row, drawn)))
    return titled


def one(row: np.ndarray, drawn: dict[str, Any], system: System, weights: np.ndarray) -> str:
    """Say why a row differs from the preset, or raise."""
    expected = under_preset(row, drawn, system)
    if (expected > 0).sum() == 1 and ((weights > 0) == (expected > 0)).all():
        return SAME
    verdict = compare(row, filled_in(drawn, system), system, weights, expected)
    unspecified = [step for step, ties in system.ties.items() if ties == "unspecified" and step in drawn]
    if unspecified and np.array_equal(np.sort(row[weights > 0]), np.sort(row[expected > 0])):
        return f"{unspecified[-1]} keeps unspecified ties at its cut"
    left = [rule for rule in verdict.split("; ") if not rule.startswith(EXPRESSED[system.name])]
    assert left, f"the preset should express that {verdict}: {drawn}"
    return "; ".join(left)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_preset_draws_from_what_the_system_draws_from(name: str, tmp_path: Path) -> None:
    system, verdicts, unexplained = SYSTEMS[name], Counter[str](), []
    titled = user_rows(system)
    answers = ask(name, [(row, {**drawn, "defaults": True}) for _, (row, drawn) in titled], tmp_path)
    for (title, (row, drawn)), weights in zip(titled, answers, strict=True):
        try:
            verdicts[one(row, drawn, system, weights)] += 1
        except AssertionError as error:
            unexplained.append(f"{title}: {error}")
    print(f"\nlike {system.title} {system.version}: {len(titled):,} rows, {len(unexplained)} unexplained")
    for verdict, count in verdicts.most_common():
        print(f"  {count:6,} {verdict}")
    assert not unexplained, f"{len(unexplained)} of {len(titled)} rows, such as\n" + "\n".join(unexplained[:5])
