"""Quadratic smoothing of a group, directly after the temperature. Law: `sampling.smoothing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from samplerd_server.sampling.dry import LARGEST
from samplerd_server.sampling.portable.arithmetic import ln
from samplerd_server.sampling.portable.logits import ALMOST_ZERO
from samplerd_server.sampling.portable.units import as_float32
from samplerd_server.sampling.smoothing import FARTHEST, MONOTONE, bend

if TYPE_CHECKING:
    from torch import Tensor

    from samplerd_server.sampling.portable.logits import LoadedRows

__all__ = ["Smoothing", "has_smoothing"]

_NEVER = float("-inf")


def has_smoothing(rows: LoadedRows) -> bool:
    """Tell whether any row of a group is smoothed."""
    return not rows.group.is_plain and bool((rows.group.records["smoothing_factor"] > 0).any())


class Smoothing:
    """Bends the logits of a group at the temperature that its rows have when this is made."""

    def __init__(self, rows: LoadedRows) -> None:
        self._rows = rows
        self._factor = rows.parameters.column("smoothing_factor")
        self._curve = rows.parameters.column("smoothing_curve")
        self._temperature = rows.temperature.clamp(min=ALMOST_ZERO)
        # The coldest is certainty of the most likely, of which nothing is bent.
        self.is_on = (self._factor > 0) & (self._temperature > ALMOST_ZERO)
        """bool[B, 1]: the row is bent."""

    def logits(self) -> Tensor:
        """Return the logits of whole rows before they are bent, float64[B, W]: of weights ln w as float32."""
        rows = self._rows
        if rows.weights is None:
            return rows.adjusted
        return torch.where(self.is_on & rows.are_weights, as_float32(ln(rows.weights)), rows.adjusted)

    def bound(self) -> Tensor:
        """Return the bound of what was not sent before it is bent, float64[B, 1], as `logits` does."""
        rows = self._rows
        if rows.weights is None:
            return rows.bound
        return torch.where(self.is_on & rows.are_weights, as_float32(ln(rows.bound_weight)), rows.bound)

    def bend(self, logits: Tensor, largest: Tensor) -> Tensor:
        """Bend logits, float64[B, n], relative to float64[B, 1], where a row is smoothed."""
        distance = ((logits - largest) / self._temperature).clamp(min=FARTHEST)
        bent = as_float32(bend(distance, self._factor, self._curve).clamp(-LARGEST, LARGEST))
        return torch.where(self.is_on & (logits > _NEVER), bent, logits)

    def apply(self) -> None:
        """Bend whole rows: from here on they are logits at T = 1, and of what was not sent little is known."""
        rows, on = self._rows, self.is_on
        logits = self.logits()
        largest = logits.amax(1, keepdim=True)
        if rows.rest is not None:
            rows.set_bound(self.bend(self.bound(), largest))
            rows.undecided = rows.undecided | (on & (self._curve > MONOTONE) & rows.has_rest)
            rows.rest = torch.where(on & rows.has_rest, float("nan"), rows.rest)
        rows.are_weights = rows.are_weights & ~on
        rows.adjusted = self.bend(logits, largest)
        rows.largest = rows.adjusted.amax(1, keepdim=True)
        rows.with_temperature(torch.where(on, 1.0, self._temperature))
