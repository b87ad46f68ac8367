"""Skew, quadratic smoothing and top_a beside samplers that have them: ExLlamaV2's C++, Aphrodite's torch functions.

n = 2,000 random rows of ExLlamaV2 without a skew, 300 with one, and 2,000 of Aphrodite; seeds 4 to 6. Null: the same
categories, and probabilities that differ by the rounding of float32 alone. What follows from how they are made is done
to samplerd's side, by name, and is a sentence of docs/coming_from.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from samplerd_server.core.enums import FilterStep
from tests.peers.environments import PARTS
from tests.peers.model import sample
from tests.peers.rows import random_row
from tests.peers.test_differences import ask_worker
from tests.support.samplers import params

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.peer, pytest.mark.timeout(3_600)]

SMALLEST = 1e-7
"""ExLlamaV2 sorts nothing below 1e-8: less likely categories are compared with neither."""
REACHED = 0.9998
"""ExLlamaV2 multiplies its random number by this, so that the last of the mass is never drawn."""
VALUES: dict[str, Callable[[np.random.Generator], float]] = {
    "temperature": lambda rng: float(rng.uniform(0.5, 2)),
    "top_k": lambda rng: int(rng.integers(2, 30)),
    "top_a": lambda rng: float(np.exp(rng.uniform(np.log(1e-3), 0))),
    "smoothing_factor": lambda rng: float(rng.uniform(0.05, 2)),
    "smoothing_curve": lambda rng: float(rng.uniform(1, 3)),
    "skew": lambda rng: float(rng.uniform(-1, 1)),
}

Drawn = dict[str, Any]


def rows(cases: tuple[tuple[str, ...], ...], seed: int, count: int, sizes: list[int]) -> list[tuple[np.ndarray, Drawn]]:
    """Spread random rows over the cases."""
    rng = np.random.default_rng(seed)
    every = []
    for number in range(count):
        row = random_row(rng, int(rng.choice(sizes)))
        every.append((row, {name: VALUES[name](rng) for name in cases[number % len(cases)]}))
    return every


def ours(row: np.ndarray, drawn: Drawn, steps: tuple[str, ...]) -> np.ndarray:
    """What samplerd draws from, float64[V]."""
    own = {"steps": np.array([FilterStep[name.upper()] for name in steps], np.int32), **drawn}
    weights = sample(row, params(**own), None)
    return weights / weights.sum()


def worst(expected: np.ndarray, weights: np.ndarray) -> float:
    """The largest difference of two logarithms of probabilities, of which none may be lost or gained."""
    expected, weights = expected / expected.sum(), weights / weights.sum()
    looked_at = np.maximum(expected, weights) > SMALLEST
    assert ((expected > 0) == (weights > 0))[looked_at].all(), "another category is kept"
    both = looked_at & (expected > 0)
    return float(np.abs(np.log(expected[both]) - np.log(weights[both])).max())


EXLLAMAV2_STEPS = ("temperature", "top_k")
EXLLAMAV2 = (
    ("smoothing_factor",),
    ("smoothing_factor", "temperature"),
    ("smoothing_factor", "top_k"),
    ("smoothing_factor", "temperature", "top_k"),
    ("temperature", "top_k"),
)
"""Not its top_a and min_p: where all that is left passes them, they take one more (docs/coming_from.md)."""


def of_exllamav2(drawn: Drawn) -> Drawn:
    """It divides the squared distance by T, samplerd by T^2: a factor of f is one of f T here."""
    if "smoothing_factor" not in drawn:
        return drawn
    return {**drawn, "smoothing_factor": drawn["smoothing_factor"] * drawn.get("temperature", 1.0)}


def test_exllamav2_keeps_and_weighs_the_same(tmp_path: Path) -> None:
    every = rows(EXLLAMAV2, 4, 2_000, [32, 320])
    for (row, drawn), weights in zip(every, ask_worker(PARTS["exllamav2"], every, tmp_path), strict=True):
        assert worst(ours(row, of_exllamav2(drawn), EXLLAMAV2_STEPS), weights) < 1e-4, drawn


def test_exllamav2_skews_by_the_same_law(tmp_path: Path) -> None:
    """Its ends of categories in terms of its random number; 1e-5 is what float32 powers and sums leave."""
    cases = (("skew",), ("skew", "top_k"), ("skew", "temperature"), ("skew", "smoothing_factor", "top_k"))
    every = rows(cases, 5, 300, [32])
    for (row, drawn), weights in zip(every, ask_worker(PARTS["exllamav2"], every, tmp_path), strict=True):
        plain = ours(row, of_exllamav2({**drawn, "skew": 0.0}), EXLLAMAV2_STEPS)
        order = np.argsort(-plain, kind="stable")
        skewed = np.cumsum(ours(row, of_exllamav2(drawn), EXLLAMAV2_STEPS)[order])
        reached = np.minimum(1.0, skewed / REACHED ** np.exp(drawn["skew"]))
        assert np.abs(np.cumsum(weights[order]) - reached).max() < 1e-5, drawn


APHRODITE_STEPS = ("top_a", "temperature")
APHRODITE = (
    ("smoothing_factor",),
    ("smoothing_factor", "smoothing_curve"),
    ("smoothing_factor", "smoothing_curve", "top_a"),
    ("smoothing_factor", "smoothing_curve", "temperature"),
    ("top_a",),
    ("skew",),
    ("skew", "top_a"),
    ("skew", "smoothing_factor", "top_a"),
)


def test_aphrodite_bends_and_skews_by_the_same_laws(tmp_path: Path) -> None:
    """Its skew adds up in the order of the ids, so that rows whose skew is held descend; 1e-4 is left by float32."""
    every = [
        (-np.sort(-row) if "skew" in drawn else row, drawn) for row, drawn in rows(APHRODITE, 6, 2_000, [6, 50, 400])
    ]
    for (row, drawn), weights in zip(every, ask_worker(PARTS["aphrodite"], every, tmp_path), strict=True):
        expected = ours(row, drawn, APHRODITE_STEPS)
        if "skew" in drawn:  # differences of float32 sums near 1
            assert np.abs(expected - weights / weights.sum()).max() < 1e-5, drawn
        else:
            assert worst(expected, weights) < 1e-4, drawn
