"""Do draws in an order of one's own follow that order's law, and no other's?

Null: the samples are independent draws from the reference's processed distribution for these steps, worked out in
float64. Chi-square, alpha = 1e-4 for each test, categories expected fewer than 10 times pooled. Seeds are fixed, so
that a failure is a change of the sampler and never bad luck. Each order is also held against the law of another order
of the same steps, which the same draws must reject: a sampler that took the steps in that order would fail.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from samplerd_server.core.enums import FilterStep, LogprobKind
from samplerd_server.sampling.reference import pipeline as reference
from tests.statistical.test_goodness_of_fit import fits
from tests.support.samplers import draw, params, request

V = 24
ROW = np.round(np.random.default_rng(40).normal(size=V) * 16) / 8
HISTORY = np.array([0, 3, 3, 5, 9, 9, 9, 17], np.int32)
PENALTIES = {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.6, "history": HISTORY}
T, K, P, M, Y, X = "temperature", "top_k", "top_p", "min_p", "typical_p", "xtc"


class Case(NamedTuple):
    """Parameters, the order that is asked for, and one that must not be mistaken for it."""

    fields: dict[str, Any]
    steps: tuple[str, ...]
    other: tuple[str, ...]


CASES = {
    "the temperature before top_p": Case({"temperature": 2.0, "top_p": 0.7}, (T, P), (P, T)),
    "the temperature after top_p": Case({"temperature": 2.0, "top_p": 0.7}, (P, T), (T, P)),
    "the temperature between two filters": Case(
        {"temperature": 1.8, "top_p": 0.85, "min_p": 0.15}, (P, T, M), (M, T, P)
    ),
    "the temperature last, after penalties": Case({"temperature": 0.5, "min_p": 0.08, **PENALTIES}, (M, T), (T, M)),
    "penalties before a temperature in the middle": Case(
        {"temperature": 1.7, "top_k": 9, "top_p": 0.8, **PENALTIES}, (K, T, P), (T, P, K)
    ),
    "top_k before top_p": Case({"top_k": 6, "top_p": 0.75}, (K, P), (P, K)),
    "top_p before top_k": Case({"top_k": 6, "top_p": 0.75}, (P, K), (K, P)),
    "typical_p before top_p": Case({"typical_p": 0.5, "top_p": 0.85}, (Y, P), (P, Y)),
    "top_p before typical_p": Case({"typical_p": 0.5, "top_p": 0.85}, (P, Y), (Y, P)),
    "typical_p before the temperature": Case({"temperature": 2.5, "typical_p": 0.5}, (Y, T), (T, Y)),
    "XTC before top_k": Case({"xtc_threshold": 0.08, "xtc_probability": 0.5, "top_k": 4}, (X, K), (K, X)),
    "XTC after the temperature": Case(
        {"xtc_threshold": 0.05, "xtc_probability": 0.5, "temperature": 1.6, **PENALTIES}, (T, X), (X, T)
    ),
    "XTC before the temperature": Case(
        {"xtc_threshold": 0.05, "xtc_probability": 0.5, "temperature": 1.6, **PENALTIES}, (X, T), (T, X)
    ),
}


def named(*steps: str) -> np.ndarray:
    """The steps as a request has them."""
    return np.array([FilterStep[step.upper()] for step in steps], np.int32)


def law(fields: dict[str, Any], steps: tuple[str, ...]) -> np.ndarray:
    """The probabilities of all ids by the reference; with XTC, which acts on some rows, those of acting and of not."""
    act = fields.get("xtc_probability", 0.0)
    mixture = np.zeros(V)
    for share, own in ((act, {"xtc_probability": 1.0}), (1.0 - act, {"xtc_probability": 0.0})):
        chosen = fields | own if act else fields
        [outcome] = reference.sample(request(ROW, params=params(**chosen, steps=named(*steps))))
        processed = outcome.distributions[LogprobKind.PROCESSED]
        mixture[processed.ids] += share * np.exp(processed.logprobs)
    assert math.isclose(mixture.sum(), 1.0, rel_tol=1e-9)
    return mixture


def draws(sampler: Any, case: Case, seed: int) -> np.ndarray:
    """n = 60,000: draws of one row or, as XTC decides once for a row, one draw of each of as many rows."""
    own = params(**case.fields, steps=named(*case.steps))
    if "xtc_probability" not in case.fields:
        return draw(sampler, request(ROW, params=own, num_samples=60_000, seed=seed)).samples
    samples = [
        draw(sampler, request(np.tile(ROW, (6_000, 1)), params=own, seed=seed + part)).samples for part in range(10)
    ]
    return np.concatenate(samples)


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_order_that_was_asked_for_and_no_other(sampler, name):
    """n = 60,000, V = 24, seed 41 (XTC: 6,000 rows of each of the seeds 41 to 50)."""
    case = CASES[name]
    samples = draws(sampler, case, seed=41)
    assert fits(samples, law(case.fields, case.steps))
    assert not fits(samples, law(case.fields, case.other))
