"""The total order (value descending, position ascending) and prefix sums along it, the same for a row in any batch.

Law. `first` lists the first n of the order. A sort is not arithmetic: with its ties decided it has one answer, whatever
else is sorted beside it. `scan` adds by doubling distances (Hillis and Steele, 1986), so that the sum at i depends on
i + 1 numbers alone and not on how many follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["first", "scan"]


def first(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """List the first n of the order.

    Args: values, float64[B, W] without NaN (rows with NaN give nonsense positions, but within the row). Returns values
    float64[B, n] and positions int64[B, n]; n is clamped to W. No device syncs. Cost: a partial selection and a few
    passes; a full sort from a quarter of W on.
    """
    width = values.shape[1]
    n = min(n, width)
    if n * 4 >= width:
        listed, positions = values.sort(dim=1, descending=True, stable=True)
        return listed[:, :n], positions[:, :n]
    last = values.topk(n, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, at = values > last, values == last
    room = n - above.sum(1, keepdim=True)
    taken = above | (at & (at.cumsum(1, dtype=torch.int32) <= room))
    slots = torch.where(taken, taken.cumsum(1, dtype=torch.int32) - 1, n).long().clamp_(0, n)
    positions = torch.zeros((len(values), n + 1), dtype=torch.int64, device=values.device)
    positions.scatter_(1, slots, torch.arange(width, device=values.device).expand_as(values))
    positions = positions[:, :n]  # the last slot took all that was not taken; what is left ascends
    listed, by_value = values.gather(1, positions).sort(dim=1, descending=True, stable=True)
    return listed, positions.gather(1, by_value)


def scan(values: Tensor) -> Tensor:
    """Inclusive prefix sums of float64[B, n]."""
    distance = 1
    while distance < values.shape[1]:
        values = torch.cat([values[:, :distance], values[:, distance:] + values[:, :-distance]], dim=1)
        distance *= 2
    return values
