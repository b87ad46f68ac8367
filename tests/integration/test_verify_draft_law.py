"""What VerifyDraft returns over a real socket follows the target's law, whatever the draft and the filters.

Null, everywhere: the tokens are independent draws from the target's processed distribution. alpha = 1e-4 for each test;
n and the seeds are stated with each, and fixed, so that a failure is a change of the server and never bad luck.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from samplerd_client import VerifyStream
from samplerd_client.samplerctl.statistics import chi_square_fit

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALPHA = 1e-4


def processed(row: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """The law that the target's parameters make of its row, as the documentation says it."""
    p = np.exp((row.astype(np.float64) - row.max()) / temperature)
    ranked = np.argsort(-p, kind="stable")
    p[ranked[top_k or len(p) :]] = 0.0
    p /= p.sum()
    mass = np.cumsum(p[ranked])
    p[ranked[int(np.searchsorted(mass, top_p)) + 1 :]] = 0.0
    return p / p.sum()


ROW = np.array([1.0, 2.0, 0.5, 1.5, -0.5, 0.0], np.float32)
Q = np.array([0.3, 0.1, 0.05, 0.05, 0.3, 0.2])
"""Unlike the target, and fond of what its filters cut."""


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 3}, {"top_p": 0.8, "temperature": 0.7}, {"top_k": 5, "top_p": 0.9}], ids=str
)
async def test_the_first_token_follows_the_target(stream, options):
    """n = 2,000 drafts of one token each from Q, seeds 0 to 1,999."""
    n, law = 2000, processed(ROW, **options)
    drafted = np.random.default_rng(31).choice(len(Q), size=n, p=Q)
    target = np.stack([ROW, ROW])
    results = await asyncio.gather(
        *(stream.verify(target, [int(token)], Q[None], seed=seed, **options) for seed, token in enumerate(drafted))
    )
    first = np.bincount([result.samples[0] for result in results], minlength=len(Q))
    assert chi_square_fit(first, law).p_value > ALPHA
    accepted = sum(result.accepted for result in results)
    share = np.minimum(law, Q).sum()
    assert chi_square_fit(np.array([accepted, n - accepted]), np.array([share, 1.0 - share])).p_value > ALPHA
    assert chi_square_fit(np.bincount(drafted, minlength=len(Q)), law).p_value < ALPHA, "the draft alone would not"


async def test_a_token_that_was_certain_is_kept_as_often_as_the_target_would_draw_it(stream):
    """n = 2,000 greedy drafts of id 1, seeds 0 to 1,999."""
    options: dict[str, Any] = {"top_k": 4, "temperature": 1.5}
    target = np.stack([ROW, ROW])
    results = await asyncio.gather(*(stream.verify(target, [1], seed=seed, **options) for seed in range(2000)))
    first = np.bincount([result.samples[0] for result in results], minlength=len(Q))
    assert chi_square_fit(first, processed(ROW, **options)).p_value > ALPHA
    assert all((result.samples[0] == 1) == (result.accepted == 1) for result in results)


NEXT_TARGET = np.array([[0.0, 1.0, 2.0], [1.5, 0.0, 0.0], [-1.0, 1.0, 0.5]], np.float32)
NEXT_Q = np.array([[0.6, 0.2, 0.2], [0.1, 0.45, 0.45], [0.2, 0.2, 0.6]])
"""Rows by the token before."""


async def one_pair(stream: VerifyStream, seed: int, options: dict[str, Any]) -> tuple[int, int]:
    """Two tokens of a small language, decoded speculatively as a generator does it."""
    numbers = np.random.default_rng((32, seed))
    first = int(numbers.choice(3, p=NEXT_Q[0]))
    second = int(numbers.choice(3, p=NEXT_Q[first]))
    target, draft = NEXT_TARGET[[0, first, second]], NEXT_Q[[0, first]]
    result = await stream.verify(target, [first, second], draft, seed=seed, **options)
    if len(result.samples) > 1:
        return int(result.samples[0]), int(result.samples[1])
    head = int(result.samples[0])
    drafted = int(numbers.choice(3, p=NEXT_Q[head]))
    target, draft = NEXT_TARGET[[head, drafted]], NEXT_Q[[head]]
    again = await stream.verify(target, [drafted], draft, seed=seed, draw_offset=1, **options)
    return head, int(again.samples[0])


@pytest.mark.parametrize("options", [{}, {"top_p": 0.85, "temperature": 0.9}], ids=str)
async def test_pairs_of_tokens_follow_the_target(stream, options):
    """n = 2,000 pairs from drafts of two tokens, each token's law that of the token before; seeds 0 to 1,999."""
    pairs = await asyncio.gather(*(one_pair(stream, seed, options) for seed in range(2000)))
    counts = np.bincount([3 * first + second for first, second in pairs], minlength=9)
    laws = [processed(row, **options) for row in NEXT_TARGET]
    assert chi_square_fit(counts, np.concatenate([laws[0][token] * laws[token] for token in range(3)])).p_value > ALPHA
    drafts = np.concatenate([NEXT_Q[0][token] * NEXT_Q[token] for token in range(3)])
    assert chi_square_fit(counts, drafts).p_value < ALPHA, "pairs of the draft's law are told apart"


@pytest.mark.parametrize("options", [{}, {"top_k": 4, "temperature": 0.8}], ids=str)
async def test_the_first_token_of_a_tree_follows_the_target(stream, options):
    """n = 2,000 trees: three tokens drawn from Q without replacement, one more after the second; seeds 0 to 1,999."""
    n, law, parents = 2000, processed(ROW, **options), [-1, -1, -1, 1]
    target, calls, likely = np.stack([ROW] * 5), [], np.zeros(len(Q))
    for seed in range(n):
        numbers = np.random.default_rng((33, seed))
        ids = [int(token) for token in numbers.choice(len(Q), size=3, replace=False, p=Q)]
        rows = [np.where(np.isin(np.arange(len(Q)), ids[:tried]), 0.0, Q) for tried in range(3)]
        ids.append(int(numbers.choice(len(Q), p=Q)))
        likely[ids[0]] += 1
        calls.append(stream.verify(target, ids, np.stack([*rows, Q]), parents=parents, seed=seed, **options))
    results = await asyncio.gather(*calls)
    first = np.bincount([result.samples[0] for result in results], minlength=len(Q))
    assert chi_square_fit(first, law).p_value > ALPHA
    assert chi_square_fit(likely, law).p_value < ALPHA, "the first drafted tokens alone would not"
    second = np.bincount([result.samples[1] for result in results if result.accepted], minlength=len(Q))
    assert chi_square_fit(second, law).p_value > ALPHA, "the token after an accepted one"
    assert {tuple(result.path) for result in results} == {(), (0,), (1,), (2,), (1, 3)}
