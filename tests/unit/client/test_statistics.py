"""Percentiles, chi-square and replay, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from samplerd_client.philox import philox4x32, uniforms
from samplerd_client.replay import draw, follows, masses, replay
from samplerd_client.samplerctl.statistics import chi_square_fit, chi_square_sf, gamma_q, percentile


@given(a=st.floats(0.05, 5000.0), ratio=st.floats(0.01, 4.0))
def test_gamma_q_is_scipys(a: float, ratio: float) -> None:
    assert gamma_q(a, a * ratio) == pytest.approx(float(scipy.special.gammaincc(a, a * ratio)), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 3, 11, 100, 5000, 100_000])
@pytest.mark.parametrize("deviations", [-4.0, -1.0, 0.0, 1.0, 4.0, 9.0])
def test_chi_square_is_scipys(degrees: int, deviations: float) -> None:
    statistic = max(0.0, degrees + deviations * math.sqrt(2.0 * degrees))
    assert chi_square_sf(statistic, degrees) == pytest.approx(
        float(scipy.stats.chi2.sf(statistic, degrees)), rel=1e-6, abs=1e-12
    )


def test_chi_square_ends() -> None:
    assert chi_square_sf(0.0, 3) == 1.0
    assert chi_square_sf(math.inf, 3) == 0.0
    assert gamma_q(2.0, 0.0) == 1.0


def test_fit_is_scipys_when_nothing_is_pooled() -> None:
    counts, law = np.array([130, 540, 64, 266]), np.array([0.1298, 0.5416, 0.0635, 0.2651])
    fit = chi_square_fit(counts, law)
    reference = scipy.stats.chisquare(counts, law * counts.sum())
    assert (fit.statistic, fit.p_value) == (pytest.approx(reference.statistic), pytest.approx(reference.pvalue))
    assert fit.degrees == 3


def test_small_cells_are_pooled() -> None:
    law = np.array([0.5, 0.49] + [0.001] * 10)
    fit = chi_square_fit(np.array([50, 49] + [1] + [0] * 9), law)
    assert fit.degrees == 1, "the pool of ten tiny cells is still too small, so it joins another"
    assert chi_square_fit(np.array([500, 490] + [1] * 10), law).degrees == 2


def test_an_impossible_category_fails() -> None:
    assert chi_square_fit(np.array([1, 10**6]), np.array([0.0, 1.0])).p_value == 0.0
    assert chi_square_fit(np.array([0, 10**6]), np.array([0.0, 1.0])).p_value == 1.0


def test_a_wrong_law_fails() -> None:
    assert chi_square_fit(np.array([5200, 4800]), np.array([0.5, 0.5])).p_value < 1e-4


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 500), (90, 900), (99, 990), (99.9, 999), (100, 1000)])
def test_percentiles_are_values_that_were_seen(percent: float, value: int) -> None:
    assert percentile(np.arange(1.0, 1001.0), percent) == value


def test_percentiles_of_little() -> None:
    assert percentile([3.0], 99.9) == 3.0
    assert math.isnan(percentile([], 50.0))


def test_philox_known_answers() -> None:
    counters = np.array([[0] * 4, [0xFFFFFFFF] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], dtype=np.uint32)
    keys = [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0xA4093822, 0x299F31D0)]
    answers = [
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ]
    for counter, key, answer in zip(counters, keys, answers, strict=True):
        assert " ".join(f"{word:08x}" for word in philox4x32(counter[None], key)[0]) == answer


def test_uniforms() -> None:
    whole = uniforms(2**63 + 7, 1000, row=3)
    assert ((whole > 0.0) & (whole < 1.0)).all()
    assert np.array_equal(whole[400:], uniforms(2**63 + 7, 600, row=3, draw_offset=400))
    assert not np.array_equal(whole, uniforms(2**63 + 7, 1000, row=4))
    far = uniforms(1, 2, draw_offset=2**32 - 1)
    assert far[1] == uniforms(1, 1, draw_offset=2**32)[0], "the index has 64 bits"
    assert scipy.stats.kstest(uniforms(5, 100_000), "uniform").pvalue > 1e-4
    word = philox4x32(np.array([[0, 0, 0, 0]], dtype=np.uint32), (0, 0))[0].astype(int).tolist()
    assert uniforms(0, 1)[0] == ((word[0] >> 5) * 2**26 + (word[1] >> 6) + 0.5) * 2.0**-53


def test_masses() -> None:
    assert masses(np.array([1.0, 2.0, 0.5, 1.5]), 0.7) == pytest.approx([0.1298, 0.5416, 0.0635, 0.2651], abs=5e-5)
    assert masses(np.array([1.0, 3.0, 3.0]), 0.0).tolist() == [0.0, 1.0, 0.0]
    assert masses(np.array([0.0, 1.0, 3.0]), probabilities=True).tolist() == pytest.approx([0.0, 0.25, 0.75])
    assert masses(np.array([1.0, 4.0]), 0.5, probabilities=True) == pytest.approx([1 / 17, 16 / 17])
    assert masses(np.array([0.0, -np.inf]), 1e-8).tolist() == [1.0, 0.0]


def test_the_law_of_a_draw() -> None:
    law = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    assert draw(law, np.array([1e-17, 0.25, 0.49, 0.5, 0.99])).tolist() == [1, 1, 1, 3, 3]
    assert replay(np.array([0.0, 0.0]), 9, 5).tolist() == (uniforms(9, 5) >= 0.5).astype(int).tolist()


def test_follows_forgives_rounding_and_nothing_else() -> None:
    law, noise = np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.4, 0.6, 0.6, 0.6, 0.999_999_999])
    ids = np.array([0, 1, 1, 1, -1, 7, 2])
    assert follows(ids, law, noise).tolist() == [True, True, False, True, False, False, False]
