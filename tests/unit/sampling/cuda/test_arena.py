"""Memory in slots: nothing is given twice, and what is given back is whole again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.sampling.cuda.arena import SLOT, Arena
from samplerd_server.sampling.cuda.card import OutOfCardMemoryError


def test_slots_are_taken_from_the_front() -> None:
    arena = Arena(4 * SLOT, 4 * SLOT)
    first, second = arena.take(1), arena.take(SLOT + 1)
    assert (first, second) == (4 * SLOT, 5 * SLOT)
    assert arena.used_bytes == 3 * SLOT
    arena.give_back(first)
    assert arena.take(SLOT) == first


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    arena = Arena(0, 3 * SLOT)
    own = arena.take(SLOT)
    with pytest.raises(OutOfCardMemoryError, match=f"no {3 * SLOT} bytes are left of {3 * SLOT}"):
        arena.take(2 * SLOT + 1)
    assert arena.used_bytes == SLOT
    arena.give_back(own)
    assert arena.take(3 * SLOT) == 0


def test_nothing_takes_a_slot_too() -> None:
    arena = Arena(0, SLOT)
    arena.take(0)
    with pytest.raises(OutOfCardMemoryError):
        arena.take(0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5 * SLOT)), max_size=60))
def test_nothing_is_given_twice_and_all_comes_back(steps) -> None:
    arena = Arena(SLOT, 16 * SLOT)
    taken: dict[int, int] = {}
    for is_taking, amount in steps:
        if is_taking:
            try:
                own = arena.take(amount)
            except OutOfCardMemoryError:
                continue
            taken[own] = -(-max(amount, 1) // SLOT) * SLOT
            spans = sorted(taken.items())
            assert all(at % SLOT == 0 and at >= SLOT and at + size <= 17 * SLOT for at, size in spans)
            assert all(at + size <= after for (at, size), (after, _) in itertools.pairwise(spans))
        elif taken:
            own = sorted(taken)[amount % len(taken)]
            arena.give_back(own)
            del taken[own]
        assert arena.used_bytes == sum(taken.values())
    for own in taken:
        arena.give_back(own)
    assert arena.take(16 * SLOT) == SLOT
