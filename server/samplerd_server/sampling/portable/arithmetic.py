"""`sampling.arithmetic` for torch's tensors of float64."""

from __future__ import annotations

import torch
from torch import Tensor

from samplerd_server.sampling.arithmetic import arithmetic

__all__ = ["exp", "exp2", "ln", "log2", "power", "power_of_two"]


def power_of_two(n: Tensor) -> Tensor:
    """2^n, exactly, for whole n with abs(n) <= 1022, float64 or int64; `torch.ldexp` goes through an inexact power."""
    return ((n.long() + 1023) << 52).view(torch.float64)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    mantissa, exponent = torch.frexp(x)
    return mantissa, exponent.to(torch.float64)


exp2, log2, exp, ln, power = arithmetic(rint=torch.round, power_of_two=power_of_two, split=_split, where=torch.where)
