"""Speculative verification, by every sampler and by the reference, against verdicts worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from samplerd_server.core.enums import InputKind, RowErrorReason
from samplerd_server.sampling.noise import Purpose, uniform
from tests.support.drafts import Said, ask_reference, ask_sampler, chain
from tests.support.requests import one_hot
from tests.support.samplers import encode, make_sampler, params, request

PROBABILITIES = InputKind.PROBABILITIES

Ask = Callable[..., Said]


@pytest.fixture(params=["reference", "numba", "torch"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """How verdicts are asked for: of the reference, and of every sampler."""
    if request.param == "reference":
        return ask_reference
    sampler = make_sampler(request.param)
    return lambda *draft: ask_sampler(sampler, *draft)


def test_a_greedy_chain_stops_at_the_first_other_token(ask):
    asked = request(one_hot(4, 5, [1, 2, 3, 4]), params=params(temperature=0.0))
    assert ask(asked, [1, 2, 3], chain(3), None)[:2] == ((1, 2, 3, 4), (0, 1, 2))
    assert ask(asked, [1, 0, 3], chain(3), None)[:2] == ((1, 2), (0,))


TREE = [-1, -1, 0, 0, 1, 1, 4]
"""Two tokens follow the sequence, two each of these, and one the last but one."""


def test_a_tree_is_walked_along_the_accepted_tokens(ask):
    """Certain rows: which token each node wants is known, so that every verdict is."""
    ids = [3, 5, 1, 2, 1, 2, 7]
    rows = {"root": 5, 0: 1, 1: 1, 2: 0, 3: 0, 4: 7, 5: 0, 6: 6}
    asked = request(one_hot(8, 8, list(rows.values())))
    assert ask(asked, ids, TREE, None)[:2] == ((5, 1, 7, 6), (1, 4, 6)), "to a leaf, and one more token"
    rows[1] = 2
    assert ask(request(one_hot(8, 8, list(rows.values()))), ids, TREE, None)[:2] == ((5, 2, 0), (1, 5))
    rows["root"], rows[0] = 3, 4
    assert ask(request(one_hot(8, 8, list(rows.values()))), ids, TREE, None)[:2] == ((3, 4), (0,))
    rows["root"] = 6
    assert ask(request(one_hot(8, 8, list(rows.values()))), ids, TREE, None)[:2] == ((6,), ())


def test_a_token_that_follows_another_branch_is_not_tried(ask):
    """Token 1 of index 2 would be accepted after token 0, but token 2 was accepted."""
    target = one_hot(4, 4, [2, 1, 3, 0])
    assert ask(request(target), [0, 2, 1], [-1, -1, 0], None)[:2] == ((2, 3), (1,))


def test_what_is_left_after_a_rejection_by_hand(ask):
    """p = (.5, .3, .2), q = (.2, .6, .2): after token 1 is rejected p is (1, 0, 0), so token 0 is accepted always."""
    target = np.array([[0.5, 0.3, 0.2]] * 3)
    draft = encode([[0.2, 0.6, 0.2], [0.9, 0.0, 0.1]])
    rejected = 0
    for seed in range(60):
        asked = request(target, kind=PROBABILITIES, seed=seed, draw_offset=3)
        said = ask(asked, [1, 0], [-1, -1], draft)
        is_taken = uniform(seed, 3, 0, Purpose.ACCEPT) * 0.6 < 0.3
        assert said.path == ((0,) if is_taken else (1,))
        assert said.samples[:-1] == ((1,) if is_taken else (0,))
        u = uniform(seed, 3, said.path[0] + 1, Purpose.CORRECT)
        assert said.samples[-1] == np.searchsorted([0.5, 0.8, 1.0], u, side="right"), "the noise of its target row"
        rejected += not is_taken
    assert 20 < rejected < 40


def test_three_rejections_by_hand(ask):
    """Of certain tokens p = (.4, .3, .2, .1) becomes (0, .5, .33, .17), (0, 0, .67, .33) and (0, 0, 0, 1)."""
    target, tried = np.array([[0.4, 0.3, 0.2, 0.1]] * 4), [0.4, 0.3 / 0.6, 0.2 / 0.3]
    lengths = set()
    for seed in range(60):
        said = ask(request(target, kind=PROBABILITIES, seed=seed), [0, 1, 2], [-1, -1, -1], None)
        accepts = [uniform(seed, 0, index, Purpose.ACCEPT) < odds for index, odds in enumerate(tried)]
        first = accepts.index(True) if any(accepts) else -1
        assert said.path == (() if first < 0 else (first,))
        assert said.samples[0] == (3 if first < 0 else first)
        lengths.add(first)
    assert lengths == {-1, 0, 1, 2}


def test_all_that_can_follow_is_drafted(ask):
    """One of them is always accepted: what is left of p is certain of the last."""
    target = np.array([[0.1, 0.2, 0.3, 0.4]] * 5)
    taken = {
        ask(request(target, kind=PROBABILITIES, seed=seed), [0, 1, 2, 3], [-1] * 4, None).path for seed in range(60)
    }
    assert taken == {(0,), (1,), (2,), (3,)}


def test_a_token_that_is_drafted_again_is_not_accepted_again(ask):
    """Of certain tokens the second of a kind has nothing left."""
    target = np.array([[0.5, 0.5]] * 3)
    said = {ask(request(target, kind=PROBABILITIES, seed=seed), [0, 0], [-1, -1], None)[:2] for seed in range(40)}
    assert {path for _, path in said} == {(0,), ()}
    assert {samples for samples, path in said if path == ()} == {(1,)}


def test_a_draft_equal_to_the_target_leaves_the_target(ask):
    """A token that q could not draw is rejected; p - q is 0 everywhere, and p stays for the next token and the draw."""
    row = np.array([0.5, 0.25, 0.25, 0.0])
    target, draft = np.stack([row] * 3), encode([row, row])
    for seed in range(20):
        said = ask(request(target, kind=PROBABILITIES, seed=seed), [3, 1], [-1, -1], draft)
        assert said.path == (1,), "u q < p for p = q"
        said = ask(request(target[:2], kind=PROBABILITIES, seed=seed), [3], [-1], encode([row]))
        u = uniform(seed, 0, 0, Purpose.CORRECT)
        assert said.samples == (np.searchsorted([0.5, 0.75, 1.0], u, side="right"),)


def test_a_residual_stays_where_the_next_one_is_nothing(ask):
    """After token 1 is rejected p is (1, 0, 0), and so is q of token 2, which it could not draw."""
    target = np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    draft = encode([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    asked = request(target, kind=PROBABILITIES)
    assert ask(asked, [1, 1], [-1, -1], draft)[:2] == ((0,), ())


def test_filters_apply_to_the_rows_of_a_tree(ask):
    """top_k 2 of (.4, .3, .2, .1): tokens 2 and 3 are never accepted, and never drawn."""
    target, own = np.array([[0.4, 0.3, 0.2, 0.1]] * 4), params(top_k=2)
    for seed in range(40):
        said = ask(request(target, kind=PROBABILITIES, seed=seed, params=own), [3, 2, 1], [-1, -1, 0], None)
        assert said.path == ()
        assert said.samples in {(0,), (1,)}


# Rows that fail.


def test_verification_stops_at_a_bad_target_row(ask):
    rows = np.array([[1.0, 0.0], [np.nan, 1.0], [1.0, 1.0]])
    said = ask(request(rows, kind=PROBABILITIES), [0, 1], chain(2), None)
    assert said == ((0,), (0,), 1, -1, RowErrorReason.NAN, 0)


def test_a_bad_target_row_of_a_leaf_fails_too(ask):
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, np.inf]])
    said = ask(request(rows, kind=PROBABILITIES), [0, 0], chain(2), None)
    assert said == ((0, 0), (0, 1), 2, -1, RowErrorReason.POSITIVE_INFINITY, 1)


def test_a_bad_row_off_the_path_is_not_looked_at(ask):
    rows = np.array([[0.0, 1.0], [np.nan, 1.0], [1.0, 0.0]])
    draft = encode([[1.0, 0.0], [0.0, 1.0]])
    said = ask(request(rows, kind=PROBABILITIES), [0, 1], [-1, -1], draft)
    assert said == ((1, 0), (1,), -1, -1, RowErrorReason.NONE, 0)


def test_a_bad_draft_row_fails_its_parent_and_only_if_it_is_tried(ask):
    rows = np.array([[0.5, 0.5]] * 4)
    draft = encode([[0.5, 0.5], [-1.0, 1.0], [0.0, 0.0]])
    said = ask(request(rows, kind=PROBABILITIES), [0, 1, 1], [-1, -1, 0], draft)
    assert said == ((0,), (0,), 1, 2, RowErrorReason.NOTHING_TO_DRAW, 0), "the row of index 2; index 1 was not tried"
    draft = encode([[0.0, 1.0], [-1.0, 1.0], [1.0, 0.0]])
    said = ask(request(np.array([[0.0, 1.0]] * 4), kind=PROBABILITIES), [0, 1, 1], [-1, -1, 0], draft)
    assert said == ((), (), 0, 1, RowErrorReason.NEGATIVE_WEIGHT, 0)
