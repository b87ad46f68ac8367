"""What a batch costs, learned from those that finished: the base of every prediction that admission makes."""

from __future__ import annotations

__all__ = ["CostModel"]

_SMOOTHING = 0.1
"""Weight of the newest batch: the last ten or so count."""


class CostModel:
    """How long a byte of rows takes, learned from finished batches."""

    __slots__ = ("_seconds_per_byte",)

    def __init__(self) -> None:
        self._seconds_per_byte = 0.0

    def learn(self, size_bytes: int, seconds: float) -> None:
        """Take a finished batch into account."""
        cost = seconds / max(1, size_bytes)
        if self._seconds_per_byte == 0.0:
            self._seconds_per_byte = cost
        else:
            self._seconds_per_byte += _SMOOTHING * (cost - self._seconds_per_byte)

    def predict(self, size_bytes: int) -> float:
        """Seconds that so many bytes of rows will take; 0 as long as nothing is known."""
        return size_bytes * self._seconds_per_byte
