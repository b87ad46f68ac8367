"""What verification returns follows the target's law, whatever tree was drafted: every sampler, and the reference.

Null, everywhere: the first two tokens are a draw from the target's own language. alpha = 1e-4 for each test; n and the
seeds are stated with each, and fixed, so that a failure is a change of the sampler and never bad luck.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from samplerd_server.core.enums import InputKind
from tests.support.drafts import Said, ask_reference, ask_sampler
from tests.support.samplers import encode, make_sampler, params, request

ALPHA = 1e-4
WIDTH = 4

Ask = Callable[..., Said]


@pytest.fixture(params=["reference", "numba", "torch"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """How verdicts are asked for: of the reference, and of every sampler."""
    if request.param == "reference":
        return ask_reference
    sampler = make_sampler(request.param)
    return lambda *draft: ask_sampler(sampler, *draft)


class Language:
    """Laws of the next token by the token before, of a target and of two models that draft for it."""

    def __init__(self, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        self.target = np.exp(numbers.normal(size=(WIDTH + 1, WIDTH)))
        self.target /= self.target.sum(axis=1, keepdims=True)
        self.drafts = np.exp(1.5 * numbers.normal(size=(2, WIDTH + 1, WIDTH)))
        self.drafts /= self.drafts.sum(axis=2, keepdims=True)

    def pairs(self) -> np.ndarray:
        """Probabilities of the first two tokens, float64[V x V]; state V is the beginning."""
        return (self.target[WIDTH][:, None] * self.target[:WIDTH]).ravel()


class Tree:
    """Drafted tokens with their parents and the rows that they were drawn from."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.parents: list[int] = []
        self.rows: list[np.ndarray] = []

    def state(self, node: int) -> int:
        """The token that the next one follows; V at the root."""
        return self.ids[node] if node >= 0 else WIDTH

    def add(self, parent: int, token: int, row: np.ndarray) -> None:
        self.ids.append(token)
        self.parents.append(parent)
        self.rows.append(row)


def with_replacement(tree: Tree, node: int, children: int, language: Language, numbers: np.random.Generator) -> None:
    q = language.drafts[0, tree.state(node)]
    for _ in range(children):
        tree.add(node, int(numbers.choice(WIDTH, p=q)), q)


def without_replacement(tree: Tree, node: int, children: int, language: Language, numbers: np.random.Generator) -> None:
    """Sampling without replacement: rows that are 0 at the tokens drawn before, not renormalised."""
    q = language.drafts[0, tree.state(node)].copy()
    for _ in range(children):
        token = int(numbers.choice(WIDTH, p=q / q.sum()))
        tree.add(node, token, q.copy())
        q[token] = 0.0


def from_two_models(tree: Tree, node: int, children: int, language: Language, numbers: np.random.Generator) -> None:
    for child in range(children):
        q = language.drafts[child % 2, tree.state(node)]
        tree.add(node, int(numbers.choice(WIDTH, p=q)), q)


def certain(tree: Tree, node: int, children: int, language: Language, numbers: np.random.Generator) -> None:
    """The most likely tokens, as a greedy draft names them."""
    del numbers
    for token in np.argsort(-language.drafts[0, tree.state(node)])[:children].tolist():
        tree.add(node, token, (np.arange(WIDTH) == token).astype(float))


WAYS = [with_replacement, without_replacement, from_two_models, certain]


def grown(way: Callable[..., None], language: Language, shape: list[int], numbers: np.random.Generator) -> Tree:
    """A tree: `shape` has the numbers of children of the root and of the first drafted tokens."""
    tree = Tree()
    for number, children in enumerate(shape):
        way(tree, number - 1, children, language, numbers)
    return tree


def next_tokens(
    ask: Ask, tree: Tree, language: Language, numbers: np.random.Generator, *, has_rows: bool, **fields: Any
) -> tuple[int, ...]:
    states = [WIDTH, *tree.ids]
    target = request(language.target[states], kind=InputKind.PROBABILITIES, **fields)
    draft = encode(np.stack(tree.rows)) if has_rows else None
    said = ask(target, tree.ids, tree.parents, draft)
    assert all(tree.parents[child] == parent for parent, child in pairwise((-1, *said.path)))
    assert said.samples[:-1] == tuple(tree.ids[index] for index in said.path)
    if len(said.samples) > 1:
        return said.samples[:2]
    return (said.samples[0], int(numbers.choice(WIDTH, p=language.target[said.samples[0]])))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [[3], [4, 2, 3]], ids=str)
def test_pairs_of_tokens_follow_the_target(ask, way, shape):
    """n = 2,000 trees of a random language, seed 29, in which every pair is expected 43 times; seeds 0 to 1,999."""
    n, language = 2_000, Language(29)
    counts = np.zeros(WIDTH * WIDTH)
    drafted = np.zeros(WIDTH * WIDTH)
    for seed in range(n):
        numbers = np.random.default_rng((41, seed))
        tree = grown(way, language, shape, numbers)
        first, second = next_tokens(ask, tree, language, numbers, has_rows=way is not certain, seed=seed)
        counts[WIDTH * first + second] += 1
        drafted[WIDTH * tree.ids[0] + second] += 1
    law = language.pairs() * n
    assert chisquare(counts, law).pvalue > ALPHA
    assert chisquare(drafted, law).pvalue < ALPHA, "the first drafted token is told apart"


def test_filters_make_the_law_that_trees_follow(ask):
    """n = 2,000 trees of five tokens, top_k 3 and T = 0.7, verified with seeds 0 to 1,999."""
    n, language, own = 2_000, Language(29), {"top_k": 3, "temperature": 0.7}
    law = language.target ** (1 / 0.7)
    law[np.arange(WIDTH + 1), law.argmin(axis=1)] = 0.0
    law /= law.sum(axis=1, keepdims=True)
    counts = np.zeros(WIDTH)
    for seed in range(n):
        numbers = np.random.default_rng((42, seed))
        tree = grown(without_replacement, language, [2, 2, 1], numbers)
        tokens = next_tokens(ask, tree, language, numbers, has_rows=True, seed=seed, params=params(**own))
        counts[tokens[0]] += 1
    possible = law[WIDTH] > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], law[WIDTH][possible] * n).pvalue > ALPHA
