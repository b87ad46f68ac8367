"""The client's own judgement of verified drafts: right verdicts follow their noise, wrong ones do not."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_client.replay import masses, verdict_follows
from samplerd_server.sampling.reference.verify import verify
from tests.support.drafts import ask_reference, chain, random_parents
from tests.support.samplers import encode, request

WIDTH, LENGTH = 20, 3


def case(seed: int) -> tuple[np.ndarray, list[int], np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    target = numbers.normal(size=(LENGTH + 1, WIDTH)).astype(np.float32)
    weights = np.exp(target[:LENGTH] + 0.5 * numbers.normal(size=(LENGTH, WIDTH))).astype(np.float32)
    draft = weights.astype(np.float64) / weights.sum(axis=1, keepdims=True, dtype=np.float64)
    return target, [int(numbers.choice(WIDTH, p=row)) for row in draft], weights, draft


def test_verdicts_of_the_reference_follow_and_others_do_not() -> None:
    lengths = set()
    for seed in range(200):
        target, ids, weights, draft = case(seed)
        law = np.stack([masses(row) for row in target])
        verdict = verify(request(target, seed=seed, draw_offset=5), ids, chain(LENGTH), encode(weights))
        samples = np.array(verdict.samples, np.int32)

        def is_right(
            samples: np.ndarray, law=law, ids=ids, draft=draft, *, seed: int = seed, draw_offset: int = 5
        ) -> bool:
            return verdict_follows(samples, law, ids, draft, seed=seed, draw_offset=draw_offset)

        assert is_right(samples)
        lengths.add(len(samples))
        for last in range(WIDTH):
            if last != samples[-1]:
                assert not is_right(np.append(samples[:-1], np.int32(last)))
        assert not is_right(samples[:-1])
        assert not is_right(np.append(samples, np.int32(0)))
        if len(samples) > 1:
            assert not is_right(np.append((samples[:1] + 1) % WIDTH, samples[1:]))
    assert lengths == {1, 2, 3, 4}


@pytest.mark.parametrize(("seed", "draw_offset"), [(1, 0), (0, 1)])
def test_another_noise_is_told_apart(seed: int, draw_offset: int) -> None:
    follows = 0
    for number in range(50):
        target, ids, weights, draft = case(number)
        law = np.stack([masses(row) for row in target])
        verdict = verify(request(target, seed=0), ids, chain(LENGTH), encode(weights))
        samples = np.array(verdict.samples, np.int32)
        follows += verdict_follows(samples, law, ids, draft, seed=seed, draw_offset=draw_offset)
    assert follows < 25


def test_verdicts_on_trees_follow_with_their_path_alone() -> None:
    """Ten tokens of few kinds, so that several branches have the same tokens."""
    tokens, depths = 10, set()
    for seed in range(200):
        numbers = np.random.default_rng(seed)
        target = numbers.normal(size=(tokens + 1, 5)).astype(np.float32)
        weights = np.exp(numbers.normal(size=(tokens, 5))).astype(np.float32)
        draft = weights.astype(np.float64) / weights.sum(axis=1, keepdims=True, dtype=np.float64)
        ids, parents = [int(numbers.choice(5, p=row)) for row in draft], random_parents(numbers, tokens)
        said = ask_reference(request(target, seed=seed, draw_offset=2), ids, parents, encode(weights))
        law, samples = np.stack([masses(row) for row in target]), np.array(said.samples, np.int32)

        def is_right(
            path: list[int], samples=samples, law=law, ids=ids, draft=draft, parents=parents, seed=seed
        ) -> bool:
            return verdict_follows(samples, law, ids, draft, seed=seed, draw_offset=2, parents=parents, path=path)

        path = list(said.path)
        assert is_right(path)
        for other in range(tokens):
            if path and other != path[-1]:
                assert not is_right([*path[:-1], other])
        assert not is_right([*path, tokens])
        assert not is_right([*path, -1])
        depths.add(len(path))
    assert depths >= {0, 1, 2, 3}
