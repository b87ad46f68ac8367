"""Rows whose fields are attributes, each an array: what the tables of parameters ask of one row, asked of all at once.

numpy's own kind of such an array takes ten times as long for each field, since what it gives is of the same kind again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Columns"]


class Columns:
    """The fields of rows, ROW[B]."""

    __slots__ = ("_rows",)

    def __init__(self, rows: NDArray[np.void]) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> NDArray[Any]:
        """Give a field of all rows: [B]."""
        own: NDArray[Any] = self._rows[name]
        return own
