"""The masses of a group's rows as whole numbers, and what is decided by them: `sampling.masses` says the law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from samplerd_server.sampling.arithmetic import LN_2, LOG2_E
from samplerd_server.sampling.masses import LOWEST, NONE, PART, REST_BITS, UNKNOWN
from samplerd_server.sampling.portable.arithmetic import exp2, ln, log2, power_of_two

if TYPE_CHECKING:
    from samplerd_server.sampling.portable.records import DeviceRecords

__all__ = [
    "AdjustedRows",
    "Units",
    "as_float32",
    "ceil",
    "deviation",
    "entropy",
    "information",
    "reaches",
    "weigh_logits",
]

_NEVER = float("-inf")
_COLDEST = 1e-300


class AdjustedRows(Protocol):
    """Rows after the adjustments, B of them of width W: `logits.LoadedRows`."""

    parameters: DeviceRecords
    adjusted: Tensor
    """float64[B, W]: logits."""
    largest: Tensor
    """float64[B, 1]: the largest of them."""
    rest: Tensor | None
    """float64[B, 1]: ln of the mass of what was not sent; None where everything was."""
    weights: Tensor | None
    """float64[B, W]: what the logits are logarithms of; None of rows of logits."""
    are_weights: Tensor
    """bool[B, 1]: the row is judged by its weights."""

    @property
    def bound(self) -> Tensor:
        """float64[B, 1]: no logit of the rest is above this."""
        ...

    @property
    def bound_weight(self) -> Tensor:
        """float64[B, 1]: the same of weights."""
        ...

    @property
    def largest_weight(self) -> Tensor:
        """float64[B, 1]: the largest of the weights."""
        ...


class Units:
    """Whole rows, weighed at a temperature."""

    def __init__(self, rows: AdjustedRows, temperature: Tensor, first: Tensor | None = None) -> None:
        """Weigh.

        Args: temperature, float64[B, 1]; first, int64[B, 1], the position of the largest number that is kept, None = of
        the row. Larger ones get a mass that means nothing.
        """
        self._rows = rows
        self._largest = rows.largest if first is None else rows.adjusted.gather(1, first)
        self._largest_weight = None
        if rows.weights is not None:
            self._largest_weight = rows.largest_weight if first is None else rows.weights.gather(1, first)
        self._temperature = temperature.clamp(min=_COLDEST)
        self.shift = rows.parameters.column("shift").long()
        """int64[B, 1]: the mass of the largest is 2^shift."""
        self._scale = power_of_two(self.shift)
        self.exponents = self._exponents(rows.adjusted - self._largest, self._shares(rows.weights))
        """float64[B, W]: log2 of masses relative to the largest, at least LOWEST."""
        self.masses = self._masses(self.exponents, self._shares(rows.weights))
        """int64[B, W]."""

    def bound(self) -> Tensor:
        """int64[B, 1]: no category of the rest has more."""
        rows = self._rows
        shares = None if rows.weights is None else self._shares(rows.bound_weight)
        return self._masses(self._exponents(rows.bound - self._largest, shares), shares)

    def rest(self) -> Tensor:
        """int64[B, 1]: the mass of the rest; UNKNOWN where it is not known, or NONE."""
        rows = self._rows
        if rows.rest is None:
            return torch.full_like(self.shift, NONE)
        largest = self._largest
        if self._largest_weight is not None:
            largest = torch.where(rows.are_weights, ln(self._largest_weight), largest)
        ceiling = (REST_BITS - self.shift).to(torch.float64)
        exponent = torch.minimum(((rows.rest - largest) * LOG2_E).clamp(min=LOWEST), ceiling)
        mass = (exp2(exponent) * self._scale).round().clamp(min=1.0).long()
        mass = torch.where(rows.rest.isnan() | (self._temperature != 1), UNKNOWN, mass)
        return torch.where(rows.rest == _NEVER, NONE, mass)

    def _shares(self, weights: Tensor | None) -> Tensor | None:
        """Weights as shares of the largest, at most 1."""
        if weights is None or self._largest_weight is None:
            return None
        return (weights / self._largest_weight).clamp(max=1.0)

    def _exponents(self, gaps: Tensor, shares: Tensor | None) -> Tensor:
        exponents: Tensor = gaps * (LOG2_E / self._temperature).clamp(max=1e300)
        if shares is not None:
            exponents = torch.where(self._rows.are_weights, log2(shares) / self._temperature, exponents)
        return exponents.clamp(LOWEST, 0.0)

    def _masses(self, exponents: Tensor, shares: Tensor | None) -> Tensor:
        masses: Tensor = exp2(exponents)
        if shares is not None:
            masses = torch.where(self._rows.are_weights & (self._temperature == 1), shares, masses)
        return (masses * self._scale).round().long()


def weigh_logits(logits: Tensor, shift: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weigh logits at T = 1: log2 of masses, float64[B, n], and masses, int64[B, n].

    Args: logits, float64[B, n]; shift, int64[B, 1]; beside, float64[B, m], what they are weighed beside, None = each
    other.
    """
    largest = (logits if beside is None else beside).amax(1, keepdim=True)
    exponents = ((logits - largest) * LOG2_E).clamp(LOWEST, 0.0)
    return exponents, (exp2(exponents) * power_of_two(shift)).round().long()


def reaches(masses: Tensor, needed: Tensor) -> Tensor:
    """Tell whether masses, int64, reach thresholds, int64."""
    return masses + (masses >> PART) >= needed


def ceil(threshold: Tensor) -> Tensor:
    """Round thresholds, float64, up to int64; what is unknown (NaN) to anything."""
    return threshold.ceil().nan_to_num(0.0).long()


def information(masses: Tensor, exponents: Tensor, total: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Compute M / Z and H, in bits, float64[B, 1]: rule 3.

    Args: masses, int64[B, n], 0 for what is not kept; exponents, float64[B, n]; total and shift, int64[B, 1].
    """
    moment = (masses.to(torch.float64) * -exponents).round().long().sum(1, keepdim=True)
    whole = total.to(torch.float64)
    share = moment.to(torch.float64) / whole
    return share, (log2(whole) - shift.to(torch.float64) + share).clamp(min=0.0)


def entropy(units: Units) -> Tensor:
    """H of whole rows, in nats, float64[B, 1]."""
    total = units.masses.sum(1, keepdim=True)
    return information(units.masses, units.exponents, total, units.shift)[1] * LN_2


def as_float32(logits: Tensor) -> Tensor:
    """Round float64 to float32, as float64."""
    return logits.to(torch.float32).to(torch.float64)


def deviation(gaps: Tensor, shift: Tensor) -> Tensor:
    """Compute the population's standard deviation of logits, float64[B, 1]: rule 4.

    Args: gaps, float64[B, W], how far logits lie below the largest, +inf = never; shift, int64[B, 1].
    """
    is_finite = gaps < float("inf")
    count = is_finite.sum(1, keepdim=True).to(torch.float64)
    gaps = torch.where(is_finite, gaps, 0.0)
    power = torch.frexp(gaps.amax(1, keepdim=True)).exponent.long()
    scale, unit = power_of_two(shift - power), power_of_two(shift)
    mean = (gaps * scale).round().long().sum(1, keepdim=True).to(torch.float64) / count / scale
    parts = torch.where(is_finite, (gaps - mean) * power_of_two(-power), 0.0)
    squares = (parts * parts * unit).round().long().sum(1, keepdim=True).to(torch.float64) / count / unit
    return squares.sqrt() * power_of_two(power)
