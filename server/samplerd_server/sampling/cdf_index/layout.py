"""What the CDF index of a row is: a record that says where its parts lie and how to read them.

The masses of a row are summed once, sixteen at a time; the guide says for each of G equal parts of [0, 1) where in
these sums a search for a uniform in it begins (indexed search: Chen and Asau, On generating random variates from an
empirical distribution, AIIE Transactions 6, 1974). A draw looks into the guide, steps to its group of sixteen, and
weighs these sixteen numbers again, as the draw from a row does: the numbers stay where they are, and the index adds
less than a byte for each of them.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ADDRESSES", "CDF_INDEX", "GROUP", "group_count", "guide_size"]

GROUP = 16
"""Numbers in a group: one line of the cache in binary32, and the step of the search in a block (kernels/search.py)."""

ADDRESSES = ("numbers", "ids", "ends", "guide", "maxima", "scales")
"""Fields of `CDF_INDEX` that are addresses; in a file, offsets from its beginning, where 0 stands for none."""

CDF_INDEX = np.dtype(
    [
        *((name, "u8") for name in ADDRESSES),
        # numbers: of the row, or of what the filters kept; ids: int32[width], 0 = a number's place is its id;
        # ends: float64[groups], the cumulative masses; guide: int32[G + 1]; maxima, float32, and scales, float64: of
        # each block of 512.
        ("total", "f8"),  # the last of the ends
        ("weigh", "f8"),  # log2(e) / T, or 1 / T of weights; 0 = the numbers are masses as they are
        ("width", "i8"),  # numbers
        ("guide_size", "i8"),  # G, a power of two
        ("beyond", "i4"),  # the place that is drawn where rounding takes u x total to the total
        ("dtype", "u1"),  # enums.Dtype
        ("is_weights", "u1"),
    ],
    align=True,
)
"""The CDF index of one row."""


def group_count(width: int) -> int:
    """Count the groups of a row."""
    return -(-width // GROUP)


def guide_size(width: int) -> int:
    """Give the number of parts of [0, 1) in the guide: at least one a group, so that a search takes about one step."""
    return 1 << (group_count(width) - 1).bit_length()
