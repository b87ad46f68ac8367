"""The noise of every draw: Philox-4x32-10, a counter-based generator without state.

A uniform is a function of (seed, draw index, row index, purpose) alone, so any draw can be replayed or audited by
itself, in any order and on any machine. This is the ``philox4x32-10/2`` of every reply.

Law. Key words: the 64-bit seed, low word first. Counter words: draw index low, draw index high, row index, purpose. Of
the four output words w0..w3 the first two make the 53-bit integer ``n = (w0 >> 5) * 2^26 + (w1 >> 6)``, and the uniform
is ``u = (n + 0.5) * 2^-53``, rounded to binary64. For n = 2^53 - 1 that would round to 1; such a u is 1 - 2^-53
instead, so that 0 < u < 1 always.

Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), section 3.3 and table 2.

Rule 1: no state, no entropy: the seed always comes from the caller. Rule 2: the rounds are written with operators that
Python's ints, numpy's uint64 and torch's int64 all have, so that there is one text of them. Rule 3: no torch here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Purpose", "philox", "uniform", "uniform_from_words", "uniforms"]

_M0 = 0xD2511F53
_M1 = 0xCD9E8D57
_W0 = 0x9E3779B9  # the golden ratio
_W1 = 0xBB67AE85  # sqrt(3) - 1
_LOW = 0xFFFFFFFF
_LOW_64 = 0xFFFFFFFFFFFFFFFF
_LARGEST = 1.0 - 2.0**-53
_CHUNK = 1 << 14
"""Counters computed at a time, so that the ten rounds stay in the cache."""

Words: TypeAlias = tuple[Any, Any, Any, Any]
"""Four 32-bit words, each in an int, in a uint64 array of numpy or in an int64 tensor of torch, all of one kind."""


class Purpose(IntEnum):
    """What a uniform decides: the fourth counter word, so that no two decisions share noise."""

    DRAW = 0
    """Which category is drawn."""
    XTC = 1
    """Whether XTC acts."""
    ACCEPT = 2
    """Whether a drafted token is accepted."""
    CORRECT = 3
    """Which category corrects a rejected token, or follows the last accepted one."""


def philox(counter: Words, key: tuple[Any, Any]) -> Words:
    """Encrypt a counter under a key: ten rounds of Philox-4x32.

    Args: counter, four words below 2^32; key, two words below 2^32; ints or arrays of 64-bit integers that broadcast
    against each other. Returns four words. Products wrap modulo 2^64, which leaves both halves right in signed
    arithmetic too, since the mask follows the shift.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0 = c0 * _M0
        p1 = c2 * _M1
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _LOW) ^ c1 ^ k0,
            p1 & _LOW,
            ((p0 >> 32) & _LOW) ^ c3 ^ k1,
            p0 & _LOW,
        )
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def uniform_from_words(w0: int, w1: int) -> float:
    """Make a uniform of the first two output words; see the module's law."""
    return min((((w0 >> 5) << 26) + (w1 >> 6) + 0.5) * 2.0**-53, _LARGEST)


def uniform(seed: int, draw: int, row: int = 0, purpose: Purpose = Purpose.DRAW) -> float:
    """Compute one uniform in plain integers: what a person would compute to audit one draw.

    Args: seed and draw, in [0, 2^64) (a draw index past the end wraps); row, in [0, 2^32). Returns u, 0 < u < 1.
    """
    draw &= _LOW_64
    w0, w1, _, _ = philox((draw & _LOW, draw >> 32, row, int(purpose)), (seed & _LOW, seed >> 32))
    return uniform_from_words(w0, w1)


def uniforms(
    seed: NDArray[np.uint64],
    draw: NDArray[np.uint64],
    row: NDArray[np.uint64],
    purpose: Purpose = Purpose.DRAW,
) -> NDArray[np.float64]:
    """Compute many uniforms at once.

    Args: seed, draw and row, uint64 arrays that broadcast to one shape. Returns float64 of that shape, each in (0, 1).
    """
    shape = np.broadcast_shapes(seed.shape, draw.shape, row.shape)
    flat = [np.broadcast_to(part, shape).reshape(-1) for part in (seed, draw, row)]
    out = np.empty(flat[0].size, np.float64)
    for at in range(0, out.size, _CHUNK):
        end = at + _CHUNK
        seeds, draws, rows = (part[at:end] for part in flat)
        purposes = np.full(seeds.size, int(purpose), np.uint64)
        w0, w1, _, _ = philox((draws & _LOW, draws >> 32, rows, purposes), (seeds & _LOW, seeds >> 32))
        n = ((w0 >> 5) << 26) + (w1 >> 6)
        out[at:end] = np.minimum((n.astype(np.float64) + 0.5) * 2.0**-53, _LARGEST)
    return out.reshape(shape)
