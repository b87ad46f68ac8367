"""What shapes the distribution of a group after all filters: adaptive-p, or skew. Law: `sampling.shapes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from samplerd_server.sampling.arithmetic import LOG2_E
from samplerd_server.sampling.masses import LOWEST
from samplerd_server.sampling.portable import arithmetic
from samplerd_server.sampling.portable.logits import ALMOST_ZERO
from samplerd_server.sampling.portable.records import Fields
from samplerd_server.sampling.portable.units import as_float32
from samplerd_server.sampling.shapes import LEAST, adaptive_logit, is_shaped

if TYPE_CHECKING:
    from torch import Tensor

    from samplerd_server.sampling.portable.logits import LoadedRows

__all__ = ["Shapes", "has_shapes"]

_NEVER = float("-inf")


def has_shapes(rows: LoadedRows) -> bool:
    """Tell whether any row of a group is shaped."""
    return not rows.group.is_plain and bool(is_shaped(Fields(rows.group.records)).any())


class Shapes:
    """Gives what is kept new logits."""

    def __init__(self, rows: LoadedRows, temperature: Tensor) -> None:
        """Take the parameters. Args: temperature, float64[B, 1], that what is kept is drawn at."""
        self._rows, self._temperature = rows, temperature
        self.on = is_shaped(rows.parameters) & (temperature > ALMOST_ZERO)
        """bool[B, 1]."""

    def apply(self, own: Tensor, positions: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shape.

        Args: own, float64[B, n], logits of what is kept, -inf = dropped; positions, int64[B, n], in the row; shift,
        int64[B, 1], of the masses. Returns the logits and the temperature from there on; and float64[B, n], the
        probabilities before, 1 in rows that nothing shapes.
        """
        logits = torch.where(self._rows.are_weights, as_float32(own), own)
        by_id = positions.argsort(dim=1, stable=True)
        order = by_id.gather(1, logits.gather(1, by_id).argsort(dim=1, descending=True, stable=True))
        logits = logits.gather(1, order)
        is_kept = logits > _NEVER
        inverse = (LOG2_E / self._temperature).clamp(max=1e300)
        exponents = ((logits - logits[:, :1]) * inverse).clamp(LOWEST, 0.0)
        masses = (arithmetic.exp2(exponents) * arithmetic.power_of_two(shift)).round().nan_to_num(0.0).long()
        masses = torch.where(is_kept, masses, 0)
        total = masses.sum(1, keepdim=True).to(torch.float64)
        before = torch.empty_like(own).scatter_(1, order, masses.to(torch.float64) / total)
        new = torch.where(self._column("skew") != 0, self._skew(masses, total), self._adapt(masses, total))
        new = torch.where(is_kept, as_float32(new), _NEVER)
        shaped = torch.empty_like(own).scatter_(1, order, new)
        temperature = torch.where(self.on, 1.0, self._temperature)
        return torch.where(self.on, shaped, own), temperature, torch.where(self.on, before, 1.0)

    def _column(self, name: str) -> Tensor:
        return self._rows.parameters.column(name)

    def _skew(self, masses: Tensor, total: Tensor) -> Tensor:
        ends = masses.cumsum(1).to(torch.float64) / total
        raised = arithmetic.power(ends, arithmetic.exp(self._column("skew")))
        parts: Tensor = arithmetic.ln(raised.diff(dim=1, prepend=torch.zeros_like(total)).clamp(min=LEAST))
        return parts

    def _adapt(self, masses: Tensor, total: Tensor) -> Tensor:
        logits: Tensor = adaptive_logit(masses.to(torch.float64) / total, self._column("moving_target"))
        return logits
