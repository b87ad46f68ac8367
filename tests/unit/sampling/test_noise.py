"""The noise: the published known answers, the law of the uniform, and that all three kinds of integers agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplerd_server.sampling.noise import Purpose, philox, uniform, uniform_from_words, uniforms

KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_known_answers(counter, key, expected):
    assert philox(words(counter), words(key)) == words(expected)
    arrays = [np.full(3, word, np.uint64) for word in (*words(counter), *words(key))]
    assert [int(word[2]) for word in philox(tuple(arrays[:4]), tuple(arrays[4:]))] == list(words(expected))
    tensors = [torch.full((3,), word, dtype=torch.int64) for word in (*words(counter), *words(key))]
    assert [int(word[2]) for word in philox(tuple(tensors[:4]), tuple(tensors[4:]))] == list(words(expected))


def test_a_uniform_is_made_of_the_first_two_words_of_its_counter():
    seed, draw, row = 0xA409382200000001, 0x85A308D3243F6A88, 7
    w0, w1, _, _ = philox((0x243F6A88, 0x85A308D3, 7, 2), (0x00000001, 0xA4093822))
    assert uniform(seed, draw, row, Purpose.ACCEPT) == ((w0 >> 5) * 2**26 + (w1 >> 6) + 0.5) / 2**53


def test_a_uniform_is_never_0_and_never_1():
    assert uniform_from_words(0, 0) == 2.0**-54
    assert uniform_from_words(0xFFFFFFFF, 0xFFFFFFFF) == 1 - 2.0**-53
    assert uniform_from_words(0xFFFFFFFF, 0xFFFFFFFF - 64) == 1 - 2.0**-52


def test_many_uniforms_are_the_single_ones():
    seeds = np.array([[0], [1], [2**64 - 1]], np.uint64)
    draws = np.array([0, 5, 2**32, 2**64 - 1], np.uint64)
    rows = np.array([[3], [0], [2**32 - 1]], np.uint64)
    for purpose in Purpose:
        many = uniforms(seeds, draws, rows, purpose)
        assert many.shape == (3, 4)
        for i in range(3):
            for j in range(4):
                assert many[i, j] == uniform(int(seeds[i, 0]), int(draws[j]), int(rows[i, 0]), purpose)


def test_a_long_run_equals_its_parts():
    long = uniforms(np.full(40_000, 9, np.uint64), np.arange(40_000, dtype=np.uint64), np.zeros(1, np.uint64))
    part = uniforms(np.full(1, 9, np.uint64), np.arange(30_000, 30_010, dtype=np.uint64), np.zeros(1, np.uint64))
    assert np.array_equal(long[30_000:30_010], part)


def test_the_words_of_a_counter_all_matter():
    base = uniform(1, 2, 3, Purpose.DRAW)
    others = {uniform(2, 2, 3), uniform(1, 3, 3), uniform(1, 2, 4), uniform(1, 2 + 2**32, 3), uniform(1 + 2**32, 2, 3)}
    others |= {uniform(1, 2, 3, purpose) for purpose in (Purpose.XTC, Purpose.ACCEPT, Purpose.CORRECT)}
    assert len(others) == 8
    assert base not in others
