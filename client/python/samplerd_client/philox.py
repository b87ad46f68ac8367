"""The noise of samplerd, ``philox4x32-10/2``, in plain numpy: enough to replay any draw, and written to be read.

Philox-4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is a function from a
128-bit counter and a 64-bit key to 128 bits. The key is the seed; the counter says which draw of which row it is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PURPOSE_ACCEPT", "PURPOSE_CORRECT", "PURPOSE_DRAW", "RNG", "philox4x32", "uniforms"]

RNG = "philox4x32-10/2"
"""Name and version of the noise and of the law that turns it into ids."""

PURPOSE_DRAW = 0
"""The last word of the counter: 0 the draw itself, 1 XTC, 2 draft acceptance, 3 draft correction."""
PURPOSE_ACCEPT = 2
PURPOSE_CORRECT = 3

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
"""The key grows by the golden ratio and sqrt(3) - 1, as 32-bit fractions, between rounds."""

_LARGEST = 1.0 - 2.0**-53
"""What would be rounded to 1 is this instead."""

_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def philox4x32(counters: NDArray[Any], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Return uint32[N, 4]: the output for each of the counters uint32[N, 4] under a key of two words."""
    words = [counters[:, index].astype(np.uint64) for index in range(4)]
    key_0, key_1 = key
    for _ in range(_ROUNDS):
        product_0, product_1 = _MULTIPLIERS[0] * words[0], _MULTIPLIERS[1] * words[2]
        words = [
            (product_1 >> _WORD) ^ words[1] ^ np.uint64(key_0),
            product_1 & _LOW,
            (product_0 >> _WORD) ^ words[3] ^ np.uint64(key_1),
            product_0 & _LOW,
        ]
        key_0, key_1 = (key_0 + _WEYL[0]) & 0xFFFFFFFF, (key_1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack(words, axis=1).astype(np.uint32)


def uniforms(
    seed: int, draws: int, *, row: int = 0, draw_offset: int = 0, purpose: int = PURPOSE_DRAW
) -> NDArray[np.float64]:
    """Return float64[draws] in (0, 1), both ends open: the noise of a row's draws from draw_offset on."""
    index = np.arange(draws, dtype=np.uint64) + np.uint64(draw_offset)
    counters = np.empty((draws, 4), dtype=np.uint32)
    counters[:, 0] = index & _LOW
    counters[:, 1] = index >> _WORD
    counters[:, 2] = row
    counters[:, 3] = purpose
    words = philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)).astype(np.float64)
    # 27 bits of the first word and 26 of the second; the half keeps both ends open.
    high, low = np.floor(words[:, 0] / 32.0), np.floor(words[:, 1] / 64.0)
    result: NDArray[np.float64] = np.minimum((high * 2.0**26 + low + 0.5) * 2.0**-53, _LARGEST)
    return result
