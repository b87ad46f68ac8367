"""The noise: Philox-4x32 with 10 rounds, a function of (seed, draw index, row index, purpose) and of nothing else.

Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). Words are kept in uint64, in
which numba neither widens nor overflows them.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.noise import Purpose

__all__ = ["ACCEPT", "CORRECT", "DRAW", "XTC", "philox", "uniform", "uniforms"]

DRAW, XTC = int(Purpose.DRAW), int(Purpose.XTC)
ACCEPT, CORRECT = int(Purpose.ACCEPT), int(Purpose.CORRECT)
"""Purposes, the last word of the counter."""

_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_BELOW_1 = 1.0 - 2.0**-53


@jit
def philox(c0, c1, c2, c3, k0, k1):
    """Compute the four output words for four counter words and two key words, each a uint64 below 2^32."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0 = (p1 >> _32) ^ c1 ^ k0
        c1 = p1 & _MASK
        c2 = (p0 >> _32) ^ c3 ^ k1
        c3 = p0 & _MASK
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@jit
def uniform(seed, draw, row, purpose):
    """Make a float64 in (0, 1): ((w0 >> 5) 2^26 + (w1 >> 6) + 1/2) 2^-53, or the number below 1 if that rounds to 1."""
    w0, w1, _, _ = philox(
        np.uint64(draw) & _MASK,
        np.uint64(draw) >> _32,
        np.uint64(row),
        np.uint64(purpose),
        np.uint64(seed) & _MASK,
        np.uint64(seed) >> _32,
    )
    whole = ((w0 >> np.uint64(5)) << np.uint64(26)) | (w1 >> np.uint64(6))
    return min((np.float64(whole) + 0.5) * 2.0**-53, _BELOW_1)


@jit
def uniforms(seed, first, row, purpose, out):
    """Compute out: float64[n] = `uniform` of draws first .. first + n - 1, laid out so that it fills vectors."""
    for k in range(len(out)):
        draw = first + np.uint64(k)
        c0, c1, c2, c3 = draw & _MASK, draw >> _32, np.uint64(row), np.uint64(purpose)
        k0, k1 = seed & _MASK, seed >> _32
        for _ in range(10):
            p0 = _M0 * (c0 & _MASK)
            p1 = _M1 * (c2 & _MASK)
            c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _32) ^ c3 ^ k1, p0 & _MASK
            k0 = (k0 + _W0) & _MASK
            k1 = (k1 + _W1) & _MASK
        whole = ((c0 >> np.uint64(5)) << np.uint64(26)) | (c1 >> np.uint64(6))
        u = (np.float64(np.int64(whole)) + 0.5) * 2.0**-53
        out[k] = u if u < 1.0 else _BELOW_1
