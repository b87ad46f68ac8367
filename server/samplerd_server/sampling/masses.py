"""Masses as whole numbers: the law by which every filter judges.

A category's mass is a whole number of units, `rint(m x 2^SHIFT)`, where m is its mass relative to the largest logit or
weight: 2^t with t = (x - largest) log2(e) / T for a logit x, and (w / largest)^(1/T) for a weight w. Whole numbers are
added without rounding, so that it does not matter in which order; the same categories are kept whatever implementation,
device or batch they are judged by. `arithmetic.py` says how 2^t is computed, to the bit.

Rule 1: a unit is 2^-43 of the largest mass, as long as V such masses fit into 62 bits, which is V <= 2^19; for each
doubling of V beyond that it is twice as large. What is less than half a unit is no mass.

Rule 2 (boundaries). Logits are float32, so that ln 0.3 is not exactly what a client sends; yet 0.5 + 0.3 must reach a
top_p of 0.8. So a mass reaches a threshold if it falls short of it by at most its own 2^20th part; and a category is
not kept for the sake of a sum that lacks at most the 2^20th part of that category's mass. The parts are rounded down.

Rule 3: entropies are sums of whole numbers as well, of `rint(mass x -t)`; with the total Z and that sum M,
`H = (log2 Z - SHIFT + M / Z) ln 2`.

Rule 4: the deviation that top_n_sigma looks at is of whole numbers too. With g the gaps of logits below the largest and
D the power of two above the largest gap, the mean gap is that of `rint(g / D x 2^SHIFT)`, and the variance that of
`rint(((g - mean) / D)^2 x 2^SHIFT)`; a gap is within n deviations if g less its 2^20th part is.

Rule 5: top_h adds terms of the entropy, `rint(mass x (log2 Z - SHIFT - t) x 2^(TERM_BITS - e))`, none below 0, with 2^e
the power of two above Z; a sum of them is at most a share of the sum of all if it exceeds it by at most its 2^20th
part, rounded down. Where all terms are 0 the most likely is certain, and alone kept.
"""

from __future__ import annotations

__all__ = [
    "DISTANCES",
    "LOWEST",
    "NONE",
    "PART",
    "REST_BITS",
    "SHIFT",
    "TERM_BITS",
    "TOTAL_BITS",
    "UNKNOWN",
    "shift_of",
]

PART = 20
"""A mass reaches a threshold if mass + (mass >> PART) does; a category that others of a sum s precede is kept if
s + (its mass >> PART) is below what the sum must reach."""
LOWEST = -60.0
"""Exponents t below this are taken to be it: they have no mass."""
DISTANCES = 1 << 20
"""typical_p orders by abs(-log2 p - H) in units of 1 / this, rounded to the nearest; of equal ones the lowest id."""
NONE = 0
"""The rest's mass where nothing was left unsent. A rest, however small, has at least one unit."""
UNKNOWN = -1
"""Stands for the rest's mass where it is not known."""
REST_BITS = 61
"""The rest of candidates counts for at most 2^61 units, so that every sum fits into 63 bits."""

SHIFT = 43
"""A unit is 2^-43 of the largest mass, for V up to 2^(TOTAL_BITS - SHIFT)."""
TERM_BITS = 57
"""Terms of the entropy are scaled as if all masses together were below 2^57, so that their sum, which is up to log2 V
times as large, fits into 62 bits, and a row that is nearly certain keeps its digits."""
TOTAL_BITS = 62
"""All masses of a row together fit into so many bits."""


def shift_of(vocab_size: int) -> int:
    """Find the power of two that one unit is the inverse of; vocab_size: V >= 1."""
    return min(SHIFT, TOTAL_BITS - (vocab_size - 1).bit_length())
