"""Steps 0 to 6 of a group: from memory to adjusted logits, their health, their temperature and their distributions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplerd_server.core.enums import Step
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.arithmetic import COLDEST, HOTTEST
from samplerd_server.sampling.portable.arithmetic import ln, power
from samplerd_server.sampling.portable.distribution import Distribution, certainty
from samplerd_server.sampling.portable.records import DeviceRecords, upload
from samplerd_server.sampling.portable.total_order import first
from samplerd_server.sampling.portable.units import Units, as_float32, entropy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.sampling.portable.adjust import Adjuster
    from samplerd_server.sampling.portable.row_groups import RowGroup

__all__ = ["ALMOST_ZERO", "LoadedRows", "dynamic_temperature"]

_NEVER = float("-inf")
ALMOST_ZERO = 1e-300
"""Replaces a dynamic temperature of 0: certainty of the most likely, with nothing divided by zero."""


class LoadedRows:
    """The rows of a group on the device; distributions are made when first asked for."""

    def __init__(
        self,
        group: RowGroup,
        parameters: DeviceRecords,
        raw: Tensor,
        health: Tensor,
        *,
        ids: list[NDArray[np.int64]] | None,
        weights: Tensor | None,
        guided: Tensor | None,
        adjuster: Adjuster | None,
    ) -> None:
        """Take raw logits and the weights that they are logarithms of, float64[B, W], their largest, and candidates.

        Args: health, float64[B, 1], the largest raw logit; ids of the candidates of each row; weights, None for rows
        of logits, and for guided rows; guided, float64[B, W], the logits that guidance made of the rows, or None;
        adjuster, None = the rows are plain.
        """
        self.group = group
        self.parameters = parameters
        self.raw = raw
        self.health = health
        self.adjusted = raw
        self.largest = health
        self.raw_weights = self.weights = weights
        self.are_weights = torch.full_like(health, weights is not None, dtype=torch.bool)
        """bool[B, 1]: the row is still one of weights, which no bias or penalty has turned into logits."""
        self.host_ids = ids
        self.ids: Tensor | None = None
        self.raw_rest: Tensor | None = None
        self.rest: Tensor | None = None
        self.undecided = torch.zeros_like(health, dtype=torch.bool)
        self.emptied: dict[str, Tensor] = {}
        if ids is not None:
            self._load_rest(ids)
        if guided is not None:
            self.adjusted, self.largest = guided, guided.amax(1, keepdim=True)
            self.emptied[f"after_{int(Step.GUIDANCE)}"] = self.largest
        if adjuster is not None:
            self._adjust(adjuster)

    def _load_rest(self, ids: list[NDArray[np.int64]]) -> None:
        padded = np.zeros(tuple(self.raw.shape), np.int64)
        for row, own in enumerate(ids):
            padded[row, : len(own)] = own
        self.ids = upload(padded, self.raw.device)
        self.raw_rest = self.rest = self.parameters.column("rest_logsumexp")

    def _adjust(self, adjuster: Adjuster) -> None:
        logits = self.adjusted
        if self.weights is not None:
            self.are_weights = self.parameters.column("as_logits") == 0
            logits = torch.where(self.are_weights, logits, as_float32(ln(self.weights)))
        self.adjusted, largest = adjuster.apply(logits)
        if self.weights is not None:
            self.weights = torch.where(self.adjusted > _NEVER, self.weights, 0.0)
        self.emptied |= {f"after_{int(step)}": value for step, value in largest.items()}
        self.largest = self.adjusted.amax(1, keepdim=True)
        if self.rest is not None:
            self.rest = self.parameters.column("adjusted_rest")
            # Where nothing that was sent is left, the draw falls on what was not.
            is_emptied = (self.largest == _NEVER) & (self.rest != _NEVER)
            self.undecided = (self.parameters.column("is_raised") > 0) | is_emptied

    def ids_at(self, positions: Tensor) -> Tensor:
        """Ids, int64[B, k], of positions."""
        return positions if self.ids is None else self.ids.gather(1, positions)

    @cached_property
    def temperature(self) -> Tensor:
        """float64[B, 1]; 1 for greedy rows; where filters come before a dynamic one, the one asked for until then."""
        records = self.group.records
        own = self.parameters.column("temperature")
        if self.group.is_greedy:
            return torch.ones_like(own)
        if self.group.is_plain or not records["dynamic_temperature_range"].any():
            return own
        if self.group.is_early:
            return own
        is_on = self.parameters.column("dynamic_temperature_range") > 0
        if self.rest is not None:
            self.undecided = self.undecided | (is_on & (self.rest != _NEVER))
        whole = entropy(Units(self, torch.ones_like(own)))
        return dynamic_temperature(self, whole, self.positive, self.parameters.column("vocab_size"))

    @cached_property
    def positive(self) -> Tensor:
        """int64[B, 1]: categories with positive probability, of those that were sent."""
        return (self.adjusted > _NEVER).sum(1, keepdim=True)

    def rest_mass(self, rest: Tensor | None, largest: Tensor, temperature: Tensor | None) -> Tensor | None:
        """Mass of the rest, float64[B, 1], where `largest` has mass 1: NaN where T is not 1 and there is a rest."""
        if rest is None:
            return None
        mass = torch.exp((rest - largest).clamp(max=700.0))
        if temperature is not None:
            mass = torch.where(temperature == 1, mass, float("nan"))
        return torch.where(rest == _NEVER, 0.0, mass)

    @cached_property
    def has_rest(self) -> Tensor:
        """bool[B, 1]: something that was not sent may have positive probability."""
        return torch.zeros_like(self.undecided) if self.rest is None else self.rest != _NEVER

    @cached_property
    def bound(self) -> Tensor:
        """Of candidates: the smallest logit sent, float64[B, 1]; none of the rest is above it."""
        widths = self.parameters.column("width")
        inside = torch.arange(self.raw.shape[1], device=self.raw.device) < widths
        bound = torch.where(inside, self.raw, float("inf")).amin(1, keepdim=True)
        if self.weights is None:
            return bound
        return torch.where(self.are_weights, bound, as_float32(ln(self.bound_weight)))

    @cached_property
    def bound_weight(self) -> Tensor:
        """Of candidates that are weights: the smallest sent, float64[B, 1]."""
        assert self.raw_weights is not None, "the bound of weights is asked of logits. This is a bug."
        inside = torch.arange(self.raw.shape[1], device=self.raw.device) < self.parameters.column("width")
        return torch.where(inside, self.raw_weights, float("inf")).amin(1, keepdim=True)

    @cached_property
    def largest_weight(self) -> Tensor:
        """Of weights: the largest that may be drawn, float64[B, 1]."""
        assert self.weights is not None, "the largest weight is asked of logits. This is a bug."
        return self.weights.amax(1, keepdim=True)

    def certain(self, logits: Tensor) -> Tensor:
        """Count the listed, float64[B, n], that precede all that was not sent; int64[B, 1]."""
        if self.rest is None:
            return torch.full_like(self.positive, logits.shape[1])
        bound = torch.where(self.has_rest, self.bound, _NEVER)
        return ((logits >= bound) & (logits > _NEVER)).sum(1, keepdim=True)

    def above(self, logits: Tensor) -> Tensor:
        """Count the listed, float64[B, n], that are above all that is not listed; int64[B, 1]."""
        if self.rest is None:
            return (logits > logits[:, -1:]).sum(1, keepdim=True)
        bound = torch.where(self.has_rest, self.bound, _NEVER)
        return ((logits > bound) & (logits > _NEVER)).sum(1, keepdim=True)

    @cached_property
    def raw_distribution(self) -> Distribution:
        """Of the row as sent."""
        rest, own = self.rest_mass(self.raw_rest, self.health, None), (self.raw, torch.ones_like(self.health))
        return Distribution(self.raw - self.health, rest=rest, logits=own)

    @cached_property
    def scaled(self) -> Distribution:
        """Of the adjusted row at its temperature."""
        exponents = (self.adjusted - self.largest) / self.temperature
        group, has_certain = self.group, self.has_certain
        if has_certain:
            order = first(self.adjusted, self.adjusted.shape[1])[1]
            places = torch.arange(order.shape[1], device=order.device).expand_as(order)
            by_rank = certainty(torch.empty_like(order).scatter_(1, order, places))
            exponents = torch.where(self.is_certain & (self.adjusted > _NEVER), by_rank, exponents)
        needs_more = group.output_flags & ~(OutputFlags.KEPT | OutputFlags.RANK)
        is_bare = group.is_plain and not group.without and not needs_more
        rest = self.rest_mass(self.rest, self.largest, self.temperature)
        own = None if has_certain else (self.adjusted, self.temperature)
        return Distribution(exponents, rest=rest, will_forget=is_bare, logits=own)

    @property
    def has_certain(self) -> bool:
        """Whether any row `is_certain`: waits for the device, but only where a temperature is dynamic."""
        return bool(self.group.records["dynamic_temperature_range"].any()) and bool(self.is_certain.any())

    @property
    def is_certain(self) -> Tensor:
        """bool[B, 1]: a dynamic temperature came to 0: the most likely is certain."""
        dynamic = self.parameters.column("dynamic_temperature_range") > 0
        return dynamic & (self.temperature <= ALMOST_ZERO)

    def set_bound(self, bound: Tensor) -> None:
        """Set the bound of what was not sent, float64[B, 1], after the logits changed."""
        self.__dict__["bound"] = bound

    def with_temperature(self, temperature: Tensor) -> None:
        """Set a dynamic temperature that comes after filters."""
        self.__dict__["temperature"] = temperature
        self.__dict__.pop("scaled", None)


def dynamic_temperature(rows: LoadedRows, information: Tensor, count: Tensor, listed: Tensor) -> Tensor:
    """Low + (high - low) x (H / ln V')^exponent where a row has a range, else its T; float64[B, 1].

    Args: information, H, float64[B, 1]; V' is count, int64[B, 1], of what can be drawn, or if a row asks for it
    `listed`, of what llama.cpp would still have in its list.
    """
    count = torch.where(rows.parameters.column("dynamic_temperature_counts_all") > 0, listed, count)
    spread = rows.parameters.column("dynamic_temperature_range")
    exponent = rows.parameters.column("dynamic_temperature_exponent")
    own = rows.parameters.column("temperature")
    share = torch.where(count > 1, information / ln(count.to(torch.float64)), 0.0).clamp_(0.0, 1.0)
    lift = torch.where(share > 0, power(share, exponent), 0.0)
    low = (own - spread).clamp(min=0.0)
    scaled = low + ((own + spread).clamp(max=HOTTEST) - low) * lift
    scaled = torch.where(scaled > 0, scaled.clamp(min=COLDEST), 0.0)
    return torch.where(spread > 0, scaled, own).clamp_(min=ALMOST_ZERO)
