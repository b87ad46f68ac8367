"""Whether two samples follow one law."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import chi2_contingency

__all__ = ["ALPHA", "assert_one_law"]

ALPHA = 1e-6
"""Chance that two samples of one law are taken for different. With fixed seeds a test fails always or never."""


def assert_one_law(theirs: Any, ours: Any) -> None:
    """Compare ids [n], or lists of ids [n, k] in the order of their draws, by the chi-squared test of two samples."""
    left, right = _counts(theirs), _counts(ours)
    results = sorted(left.keys() | right.keys())
    counts = [[side.get(result, 0) for result in results] for side in (left, right)]
    assert len(results) >= 4
    assert sum(counts[0]) == sum(counts[1]) >= 4_000
    assert chi2_contingency(counts).pvalue > ALPHA


def _counts(samples: Any) -> dict[tuple[int, ...], int]:
    lists = np.asarray(samples).reshape(len(samples), -1)
    found, counts = np.unique(lists, axis=0, return_counts=True)
    return {tuple(map(int, ids)): int(count) for ids, count in zip(found, counts, strict=True)}
