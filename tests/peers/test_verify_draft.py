"""VerifyDraft beside vLLM's rejection sampler: which tokens are accepted, and what corrects the first that is not.

The drafted tokens are given, so that the outcome is a pair: how many were accepted, and the token that follows them.
alpha = 1e-4 for each test; n, seeds and null are stated with each.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from samplerd_server.sampling.noise import Purpose, uniform
from tests.peers.environments import ENVIRONMENTS
from tests.support.drafts import ask_sampler, chain
from tests.support.samplers import encode, make_sampler, params, request

pytestmark = [pytest.mark.peer, pytest.mark.timeout(1200)]

PYTHON = ENVIRONMENTS["vllm"].python
WORKER = Path(__file__).parent / "workers" / "vllm_drafts.py"
ALPHA = 1e-4
WIDTH, LENGTH = 6, 3


def ask_vllm(folder: Path, **drafts: Any) -> list[list[int]]:
    """The tokens that vLLM answers to each draft."""
    assert PYTHON.exists(), "vLLM is not installed: make test-peers"
    given, answer = folder / "drafts.npz", folder / "verdicts.npy"
    np.savez(given, **drafts)
    done = subprocess.run([PYTHON, WORKER, given, answer], check=False, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [[token for token in row if token != -1] for row in np.load(answer).tolist()]


def model(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the target, float32[n + 1, V], and what the draft was drawn from, float32[n, V]."""
    numbers = np.random.default_rng(seed)
    logits = numbers.normal(size=(LENGTH + 1, WIDTH)).astype(np.float32)
    weights = np.exp(logits[:LENGTH] + 0.8 * numbers.normal(size=(LENGTH, WIDTH)))
    return logits, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def processed(logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """What the filters make of the target, float64, for cuts that fall between masses."""
    p = np.exp((logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature)
    for row, ranked in enumerate(np.argsort(-p, axis=1, kind="stable")):
        p[row, ranked[top_k or WIDTH :]] = 0.0
        p[row] /= p[row].sum()
        p[row, ranked[int(np.searchsorted(np.cumsum(p[row, ranked]), top_p)) + 1 :]] = 0.0
        p[row] /= p[row].sum()
    return p


def outcome_law(p: np.ndarray, q: np.ndarray, ids: list[int]) -> np.ndarray:
    """Probabilities of each pair of accepted count and last token, float64[n + 1, V], given the drafted tokens."""
    law, reached = np.zeros((LENGTH + 1, WIDTH)), 1.0
    for position, token in enumerate(ids):
        taken = min(1.0, p[position, token] / q[position, token])
        residual = np.maximum(p[position] - q[position], 0.0)
        law[position] = reached * (1.0 - taken) * residual / (residual.sum() or 1.0)
        reached *= taken
    law[LENGTH] = reached * p[LENGTH]
    return law


def count_outcomes(answers: list[list[int]]) -> np.ndarray:
    counts = np.zeros((LENGTH + 1, WIDTH))
    for tokens in answers:
        counts[len(tokens) - 1, tokens[-1]] += 1
    return counts


def fits(counts: np.ndarray, law: np.ndarray) -> bool:
    """Chi-square at ALPHA; outcomes expected fewer than 5 times are pooled, impossible ones must not occur."""
    n = counts.sum()
    assert counts[law == 0].sum() == 0
    often = law * n >= 5
    observed, expected = np.append(counts[often], counts[~often].sum()), np.append(law[often], law[~often].sum()) * n
    possible = expected > 0
    return bool(chisquare(observed[possible], expected[possible]).pvalue > ALPHA)


def odd_tokens(p: np.ndarray, q: np.ndarray) -> list[int]:
    """Of each position the token whose chance of acceptance is nearest to 0.6, so that every outcome occurs."""
    return np.abs(np.where(p > 0, p / q, np.inf)[:LENGTH] - 0.6).argmin(axis=1).tolist()


CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "top_k": {"top_k": 3, "temperature": 0.7},
    "top_p": {"top_p": 0.8, "temperature": 1.2},
    "top_k and top_p": {"top_k": 4, "top_p": 0.9},
}


@pytest.mark.parametrize("has_rows", [True, False], ids=["drawn", "certain"])
@pytest.mark.parametrize("name", CASES)
def test_outcomes_follow_one_law(tmp_path, name, has_rows):
    """n = 1,000 verifications of one draft of three tokens by each; seeds 0 to 999, vLLM's torch seeded with 0.

    Nulls: samplerd's outcomes follow the law of speculative sampling; vLLM's do; and both follow the same one.
    """
    n, fields = 1_000, CASES[name]
    logits, q = model(24)
    p = processed(logits, **fields)
    ids = odd_tokens(p[:LENGTH], q if has_rows else np.ones_like(q))
    law = outcome_law(p, (q if has_rows else np.eye(WIDTH)[ids]).astype(np.float64), ids)
    assert law.sum() == pytest.approx(1.0)
    assert law.sum(axis=1).min() > 0.05, "every count is expected"
    sampler, draft, own = make_sampler("numba"), encode(q) if has_rows else None, params(**fields)
    asked = [request(logits, seed=seed, params=own) for seed in range(n)]
    ours = count_outcomes([list(ask_sampler(sampler, one, ids, chain(3), draft).samples) for one in asked])
    given = {"ids": np.tile(np.array(ids, np.int32), (n, 1)), "target": np.tile(logits, (n, 1, 1))}
    rows = {"draft": np.tile(q, (n, 1, 1))} if has_rows else {}
    theirs = count_outcomes(ask_vllm(tmp_path, **given, **rows, **fields))
    assert fits(ours, law)
    assert fits(theirs, law)
    both = np.stack([ours.ravel(), theirs.ravel()])
    often = both.sum(axis=0) >= 10
    table = np.column_stack([both[:, often], both[:, ~often].sum(axis=1)])
    assert chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > ALPHA


def test_the_same_uniforms_accept_the_same_tokens(tmp_path):
    """n = 10,000 random drafts, seeds 0 to 9,999, whose uniforms are given to vLLM: 0 counts differ but for rounding.

    vLLM computes p / q >= u in float32: a difference is explained where u q is within 1e-6 of p.
    """
    n = 10_000
    models = [model(seed) for seed in range(n)]
    numbers = np.random.default_rng(51)
    ids = np.array([[numbers.choice(WIDTH, p=row / row.sum()) for row in q.astype(np.float64)] for _, q in models])
    noise = np.array([[uniform(seed, 0, position, Purpose.ACCEPT) for position in range(LENGTH)] for seed in range(n)])
    theirs = ask_vllm(
        tmp_path,
        target=np.stack([logits for logits, _ in models]),
        draft=np.stack([q for _, q in models]),
        ids=ids.astype(np.int32),
        uniforms=noise,
    )
    sampler, unexplained, lengths = make_sampler("numba"), [], np.zeros(LENGTH + 1)
    for seed, (logits, q) in enumerate(models):
        said = ask_sampler(sampler, request(logits, seed=seed), ids[seed].tolist(), chain(LENGTH), encode(q))
        lengths[len(said.path)] += 1
        at = np.arange(LENGTH), ids[seed]
        margin = np.abs(noise[seed] * q[at] - processed(logits)[:LENGTH][at]).min()
        if len(said.path) != len(theirs[seed]) - 1 and margin > 1e-6:
            unexplained.append(seed)
    assert unexplained == []
    assert lengths.min() > n / 20, "every count occurs"


def test_greedy_drafts_are_answered_alike(tmp_path):
    """n = 500 random drafts at T = 0: every token is the same."""
    n = 500
    logits = np.stack([model(seed)[0] for seed in range(n)])
    ids = np.random.default_rng(52).integers(0, WIDTH, (n, LENGTH)).astype(np.int32)
    liked = np.random.default_rng(53).random((n, LENGTH)) < 0.7
    ids = np.where(liked, logits[:, :LENGTH].argmax(axis=2), ids).astype(np.int32)
    theirs = ask_vllm(tmp_path, target=logits, ids=ids, temperature=0.0)
    sampler, own = make_sampler("numba"), params(temperature=0.0)
    ours = [
        list(ask_sampler(sampler, request(logits[at], params=own), ids[at].tolist(), chain(LENGTH), None).samples)
        for at in range(n)
    ]
    assert ours == theirs
    assert {len(tokens) for tokens in ours} == {1, 2, 3, 4}


def test_a_token_that_its_row_cannot_draw_is_judged_differently(tmp_path):
    """q(d) = 0, which no honest draft has: vLLM rejects d whatever p says, samplerd accepts it if p(d) > 0."""
    logits, q = model(24)
    q[:, 2] = 0.0
    ids = [2, 2, 2]
    theirs = ask_vllm(
        tmp_path,
        target=np.tile(logits, (50, 1, 1)),
        ids=np.tile(np.array(ids, np.int32), (50, 1)),
        draft=np.tile(q, (50, 1, 1)),
    )
    assert {len(tokens) for tokens in theirs} == {1}
    sampler = make_sampler("numba")
    ours = [ask_sampler(sampler, request(logits, seed=seed), ids, chain(LENGTH), encode(q)).path for seed in range(50)]
    assert set(ours) == {(0, 1, 2)}
