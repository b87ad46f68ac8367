"""Word weights and the account of what was drawn."""

import numpy as np
import pytest

from examples.negative_sampling import NegativeSampling, WordFrequencies, show

pytest.importorskip("wordfreq")


@pytest.fixture(scope="module")
def english() -> WordFrequencies:
    return WordFrequencies.load()


def test_english_is_whole_and_ordered(english: WordFrequencies) -> None:
    assert len(english.words) > 300_000
    assert english.words[0] == "the"
    assert (np.diff(english.frequencies) <= 0).all()
    assert english.frequencies.dtype == np.float32
    assert english.frequencies.min() > 0


def test_limit_keeps_the_most_frequent(english: WordFrequencies) -> None:
    assert WordFrequencies.load(10).words == english.words[:10]


def test_expected_shares_are_frequencies_to_three_quarters() -> None:
    words = WordFrequencies(words=("a", "b", "c"), frequencies=np.array([16.0, 1.0, 0.0], np.float32))
    np.testing.assert_allclose(words.expected_shares(), [8 / 9, 1 / 9, 0], rtol=1e-12)


def sampled(words: WordFrequencies, shares: np.ndarray, draws: int, seed: int) -> NegativeSampling:
    samples = np.random.default_rng(seed).choice(len(words.words), size=draws, p=shares).astype(np.int32)
    return NegativeSampling(vocabulary=words, samples=samples, elapsed_s=1.0)


def test_deviation_tells_the_law_from_others(english: WordFrequencies) -> None:
    # Seed 1, n = 200,000; the deviation is close to normal: 4 is exceeded once in 30,000.
    words = WordFrequencies(words=english.words[:5_000], frequencies=english.frequencies[:5_000])
    assert abs(sampled(words, words.expected_shares(), 200_000, seed=1).deviation()) < 4
    frequencies = words.frequencies.astype(np.float64)
    assert sampled(words, frequencies / frequencies.sum(), 200_000, seed=1).deviation() > 100


def test_show_names_words_with_what_was_drawn_and_expected(english: WordFrequencies) -> None:
    text = show(sampled(english, english.expected_shares(), 50_000, seed=1))
    the = next(line.split() for line in text.splitlines() if line.split()[0] == "the")
    assert the[1] == "1"
    expected, drawn = (float(cell.replace(",", "")) for cell in the[3:5])
    assert drawn == pytest.approx(expected, rel=0.2)
