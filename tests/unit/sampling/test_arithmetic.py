"""Plain arithmetic: powers and logarithms with the same bits in numpy, in compiled code and in torch."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.kernels import arithmetic as compiled

RANDOM = np.random.default_rng(11)
EXPONENTS = np.concatenate(
    [
        RANDOM.uniform(-60, 0, 20_000),
        RANDOM.uniform(-990, 990, 5_000),
        np.arange(-60.0, 1.0, 0.5),
        [-0.0, 2.0**-60, -(2.0**-60)],
    ]
)
POSITIVE = np.concatenate(
    [
        np.exp2(RANDOM.uniform(-1000, 1000, 20_000)),
        RANDOM.uniform(0.25, 4, 5_000),
        2.0 ** np.arange(-1022, 1024, 31),
        [0.0, 2.0**-1022, np.sqrt(0.5), np.sqrt(2.0)],
    ]
)
NAMES = {"exp2": EXPONENTS, "exp": EXPONENTS * 0.69, "log2": POSITIVE, "ln": POSITIVE}


def compiled_values(name: str, x: np.ndarray) -> np.ndarray:
    function = getattr(compiled, name)

    @numba.njit(error_model="numpy")
    def run(x, out):
        for i in range(len(x)):
            out[i] = function(x[i])

    out = np.empty_like(x)
    run(x, out)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_compiled_code_has_the_bits_of_numpy(name):
    x = NAMES[name]
    expected = getattr(arithmetic, name)(x)
    assert compiled_values(name, x).tobytes() == expected.tobytes()
    assert [float(getattr(arithmetic, name)(one)) for one in x[:200]] == expected[:200].tolist()


@pytest.mark.parametrize(("name", "exact"), [("exp2", np.exp2), ("exp", np.exp), ("log2", np.log2), ("ln", np.log)])
def test_values_are_close_to_the_exact_ones(name, exact):
    x = NAMES[name].astype(np.longdouble)
    with np.errstate(divide="ignore"):
        expected = exact(x)
    got = getattr(arithmetic, name)(NAMES[name])
    finite = np.isfinite(expected)
    assert (np.isfinite(got) == finite).all()
    error = np.abs(got[finite] - expected[finite]) / np.maximum(np.abs(expected[finite]), 1.0 if "l" in name else 0.0)
    # exp multiplies its argument by log2(e) first, which costs half a unit in the last place of a number up to 1000.
    assert error.max() < (2.0**-42 if name == "exp" else 2.0**-49)


def test_whole_powers_are_exact():
    n = np.arange(-60.0, 61.0)
    assert (arithmetic.exp2(n) == 2.0**n).all()
    assert (arithmetic.log2(2.0**n) == n).all()


def test_power():
    assert float(arithmetic.power(0.25, 0.5)) == pytest.approx(0.5, rel=1e-14)
    assert float(arithmetic.power(0.0, 2.0)) == 2.0**-1000
    assert float(arithmetic.power(1.0, 1e300)) == 1.0


def test_whole_numbers_round_to_even():
    @numba.njit(error_model="numpy")
    def run(x, whole, back):
        for i in range(len(x)):
            whole[i] = compiled.to_whole(x[i])
            back[i] = compiled.from_whole(whole[i])

    x = np.concatenate([[0.0, 0.5, 1.5, 2.5, 2.0**43], RANDOM.uniform(0, 2.0**51, 1000)])
    whole, back = np.empty(len(x), np.int64), np.empty(len(x))
    run(x, whole, back)
    assert (whole == np.rint(x)).all()
    assert (back == np.rint(x)).all()
