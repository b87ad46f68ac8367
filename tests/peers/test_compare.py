"""The comparison itself: it names the rule where one explains what a peer keeps, and fails where none does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.peers.compare import SAME, compare
from tests.peers.systems import SYSTEMS

HUGGING_FACE = SYSTEMS["hugging_face"]
ROW = np.array([2.0, 1.0, 1.0, 0.0, -1.0], np.float32)
P = np.exp(ROW.astype(np.float64))


def test_the_same_is_the_same() -> None:
    assert compare(ROW, {"top_k": 2}, SYSTEMS["sglang"], P * [1, 1, 0, 0, 0]) == SAME


def test_ties_are_a_named_rule_of_the_systems_that_have_it() -> None:
    every, highest = P * [1, 1, 1, 0, 0], P * [1, 0, 1, 0, 0]
    assert compare(ROW, {"top_k": 2}, HUGGING_FACE, every) == "top_k keeps all ties at its cut"
    assert compare(ROW, {"top_k": 2}, SYSTEMS["llama.cpp"], highest) == "top_k keeps unspecified ties at its cut"
    above = replace(HUGGING_FACE, ties={"top_p": "highest"})
    assert compare(ROW, {"top_p": 0.7}, above, highest) == "top_p keeps highest ties at its cut"
    with pytest.raises(AssertionError, match="keeps"):
        compare(ROW, {"top_k": 2}, HUGGING_FACE, highest)
    with pytest.raises(AssertionError, match="keeps"):
        compare(ROW, {"top_k": 2}, SYSTEMS["llama.cpp"], every)


@pytest.mark.parametrize("drawn", [{"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.2}, {"epsilon_cutoff": 0.1}])
@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_a_category_more_or_less_is_unexplained(drawn: dict[str, float], at: int) -> None:
    row = np.array([2.0, 1.1, 1.0, 0.0, -1.0], np.float32)
    p = np.exp(row.astype(np.float64))
    system = replace(HUGGING_FACE, ties={})
    right = [p * ([1] * kept + [0] * (5 - kept)) for kept in range(1, 6)]
    (own,) = [kept for kept in right if _is_same(row, drawn, kept)]
    wrong = own.copy()
    wrong[at] = 0.0 if own[at] else p[at]
    with pytest.raises(AssertionError, match="keeps"):
        compare(row, drawn, system, wrong)


def _is_same(row: np.ndarray, drawn: dict[str, float], weights: np.ndarray) -> bool:
    try:
        return compare(row, drawn, HUGGING_FACE, weights) == SAME
    except AssertionError:
        return False


def test_a_probability_that_differs_is_unexplained() -> None:
    with pytest.raises(AssertionError, match="a probability differs"):
        compare(ROW, {"temperature": 1.0}, HUGGING_FACE, P * [1, 1, 1, 1, 1.001])


def test_the_error_of_float32_is_a_named_rule_at_the_cut_alone() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    verdict = compare(row, {"top_p": 0.8}, replace(HUGGING_FACE, ties={}), np.array([0.5, 0.3, 0.15, 0]))
    assert verdict.startswith("float32")
    with pytest.raises(AssertionError, match="keeps"):
        compare(row, {"top_p": 0.79}, HUGGING_FACE, np.array([0.5, 0.3, 0.15, 0]))
