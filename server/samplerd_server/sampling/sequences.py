"""Sequences of ids as they are kept and packed: one list of all ids, and where each sequence ends in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["sequences"]


def sequences(ids: NDArray[np.int32] | None, ends: NDArray[np.int32] | None) -> list[list[int]]:
    """Give each sequence by itself.

    Args:
        ids: int32[n], one sequence after the other; None = there are none.
        ends: int32[sequences], ascending.

    """
    if ids is None or ends is None:
        return []
    own, places = ids.tolist(), ends.tolist()
    return [own[begin:end] for begin, end in zip([0, *places], places, strict=False)]
