"""What samplerd answers where sampling libraries go wrong: docs/what_goes_wrong.md has the figures.

Each function draws with stated seeds and returns counts, so that two runs of any sampler give the same numbers.
`python -m tests.support.hard_cases` stores those of the compiled kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import ROOT, machine, write_json
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from tests.support.samplers import draw, make_sampler, outputs, params, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.sampling.sampler import Sampler

__all__ = ["CASES", "RESULT", "measure"]

RESULT = ROOT / "benchmarks" / "results" / "laws" / "hard_cases.json"
VOCABULARY = 131_072


def _tail(sampler: Sampler, weight: float) -> dict[str, float]:
    """One weight of 1 and a million small ones: draws that fall on these, and how many should."""
    weights = np.full(1_000_001, weight, np.float32)
    weights[0] = 1.0
    draws = 200_000
    got = draw(sampler, request(weights, kind=InputKind.PROBABILITIES, num_samples=draws, seed=1))
    masses = weights.astype(np.float64)
    return {"draws": draws, "drawn": int((got.samples > 0).sum()), "expected": draws * (1 - 1 / masses.sum())}


def lost_tail(sampler: Sampler) -> dict[str, float]:
    """Weights that float32 cannot add to 1."""
    return _tail(sampler, 5e-8)


def doubled_tail(sampler: Sampler) -> dict[str, float]:
    """Weights that float32 adds to 1 as twice what they are."""
    return _tail(sampler, 6e-8)


def large_float16_weights(sampler: Sampler) -> dict[str, Any]:
    """Ten equal weights near the largest number of float16: how often each is drawn, of 20,000."""
    asked = request([30_000.0] * 10, Dtype.F16, kind=InputKind.PROBABILITIES, num_samples=20_000, seed=2)
    return {"counts": np.bincount(draw(sampler, asked).samples, minlength=10).tolist()}


def equal_bfloat16_logits(sampler: Sampler) -> dict[str, Any]:
    """A thousand equal logits: how often each hundred of ids is drawn, of 100,000."""
    got = draw(sampler, request(np.zeros(1_000), Dtype.BF16, num_samples=100_000, seed=3))
    return {"counts": np.bincount(got.samples // 100, minlength=10).tolist()}


def large_vocabulary_in_float16(sampler: Sampler) -> dict[str, float]:
    """Equal logits of a large vocabulary: the probability of what is drawn, times the size of the vocabulary."""
    wanted = outputs(LogprobKind.RAW)
    got = draw(sampler, request(np.zeros(VOCABULARY), Dtype.F16, num_samples=8, seed=4, outputs=wanted))
    return {
        "probability_times_size": float(np.exp(got.logprobs[LogprobKind.RAW].astype(np.float64)).max() * VOCABULARY)
    }


def seeds_beyond_32_bits(sampler: Sampler) -> dict[str, Any]:
    """Seeds that differ in their upper half alone: of 1,000 draws from 1,000 equal logits, those that agree."""
    first, second = (
        draw(sampler, request(np.zeros(1_000), num_samples=1_000, seed=seed)).samples for seed in (3, 3 + 5 * 2**32)
    )
    return {"draws": 1_000, "equal": int((first == second).sum())}


def a_coin_for_each_row(sampler: Sampler) -> dict[str, Any]:
    """XTC with probability 0.5 on batches of 64 equal rows: of each of 200 batches the rows on which it acted."""
    rows = np.tile(np.log([0.6, 0.4]), (64, 1))
    xtc = params(xtc_threshold=0.1, xtc_probability=0.5)
    acted = []
    for seed in range(200):
        kept = draw(sampler, request(rows, params=xtc, seed=seed, outputs=outputs(kept=True))).kept_count
        assert kept is not None
        acted.append(int((kept == 1).sum()))
    return {"rows": 64, "batches": 200, "fewest": min(acted), "most": max(acted), "mean": sum(acted) / 200}


def a_coin_after_a_draw(sampler: Sampler) -> dict[str, Any]:
    """XTC with probability 0.5 on equal logits: on how many second draws it acted, by the token of the first."""
    rows = np.zeros((4_000, 7))
    xtc = params(xtc_threshold=0.1, xtc_probability=0.5)
    wanted = outputs(kept=True)
    first, second = (
        draw(sampler, request(rows, params=xtc, seed=6, draw_offset=step, outputs=wanted)) for step in (0, 1)
    )
    assert second.kept_count is not None
    acted, tokens = second.kept_count.reshape(-1) == 1, first.samples.reshape(-1)
    groups = {"low": tokens < 3, "high": (tokens == 4) | (tokens == 5)}
    return {name: {"rows": int(own.sum()), "acted": int(acted[own].sum())} for name, own in groups.items()}


CASES: dict[str, Callable[[Sampler], dict[str, Any]]] = {
    own.__name__: own
    for own in (
        lost_tail,
        doubled_tail,
        large_float16_weights,
        equal_bfloat16_logits,
        large_vocabulary_in_float16,
        seeds_beyond_32_bits,
        a_coin_for_each_row,
        a_coin_after_a_draw,
    )
}
"""By name."""


def measure() -> dict[str, Any]:
    """Find the answers of the compiled kernels to all cases."""
    sampler = make_sampler("numba")
    return {name: case(sampler) for name, case in CASES.items()}


if __name__ == "__main__":
    about = {**machine(), "command": "python -m tests.support.hard_cases"}
    write_json(RESULT.parent, RESULT.stem, {"machine": about, "answers": measure()})
