"""Guidance of a group with torch operators: its rows and their guidance rows become guided logits.

Law and formulas: `sampling/guidance.py`. Everything is elementwise in float64, but for the sums, which are of whole
numbers: a row's bits do not depend on the group or on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from samplerd_server.sampling.guidance import formulas
from samplerd_server.sampling.portable.arithmetic import exp2, ln, log2, power_of_two
from samplerd_server.sampling.portable.units import as_float32

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["guide"]


_FORMULAS = formulas(exp2=exp2, log2=log2, where=torch.where)


def guide(rows: Tensor, guidance: Tensor, scale: Tensor, shifts: Tensor, *, is_weights: bool) -> Tensor:
    """Compute the guided logits.

    Args: rows, guidance, float64[B, W] of float32 numbers, all -inf (weights: 0) beyond a row's width; scale,
    float64[B, 1]; shifts, float64[B, 1], of V. Returns float64[B, W] of float32 numbers, all -inf where either
    row allows nothing; where either holds a number that no row may hold it is undefined.
    """
    c, u = (_log_softmax(_to_logits(own) if is_weights else own, shifts) for own in (rows, guidance))
    return _FORMULAS.guided(c, u, scale).to(torch.float32).to(torch.float64)  # type: ignore[no-any-return]


def _to_logits(weights: Tensor) -> Tensor:
    return as_float32(ln(weights))


def _log_softmax(logits: Tensor, shifts: Tensor) -> Tensor:
    """float64[B, W]; what no row may hold makes the whole row NaN."""
    largest = logits.amax(1, keepdim=True)
    masses = torch.round(_FORMULAS.relative_mass(logits, largest) * power_of_two(shifts)).long()
    total = masses.sum(1, keepdim=True).to(torch.float64)
    return logits - _FORMULAS.normaliser(largest, total, shifts)  # type: ignore[no-any-return]
