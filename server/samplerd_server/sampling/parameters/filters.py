"""The filters: which parameters turn each on, what each must know of a row, and the orders that they run in.

A filter has the name of its parameter; `xtc` is that of two, and `joint` is top_k and top_p judged together. `is_on` is
one text for every sampler: it takes anything that has the parameters as attributes (`core.params.SamplingParams`, a
record in compiled code, a numpy recarray, columns of a torch device) and is written with operators that all have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from samplerd_server.core.enums import Order

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FILTERS", "ORDERS", "TEMPERATURE_IS_LAST", "Filter", "Need"]


class Need(IntEnum):
    """What a filter must know of a row: decides which rows of candidates it can filter. Each includes those before."""

    ORDER = 0
    """Which categories are the first. Known of candidates always."""
    LARGEST = 1
    """The largest probability beside that of another category. Known of candidates always."""
    TOTAL = 2
    """The mass of all categories. Known of candidates at T = 1 with no mask, bias or penalty on what was not sent."""
    EACH = 3
    """Every single probability: an entropy, a standard deviation. Known when nothing is left unsent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter."""

    name: str
    is_on: Callable[[Any], Any]
    """Takes the parameters of a row, or of rows; see the module."""
    need: Need
    """A threshold (`sampling.thresholds`) may use as much of the row."""


FILTERS: tuple[Filter, ...] = (
    Filter(name="top_n_sigma", is_on=lambda row: row.top_n_sigma > 0, need=Need.EACH),
    Filter(name="top_k", is_on=lambda row: row.top_k > 0, need=Need.ORDER),
    Filter(name="top_p", is_on=lambda row: row.top_p < 1, need=Need.TOTAL),
    Filter(name="min_p", is_on=lambda row: row.min_p > 0, need=Need.LARGEST),
    Filter(name="typical_p", is_on=lambda row: row.typical_p < 1, need=Need.EACH),
    Filter(name="epsilon_cutoff", is_on=lambda row: row.epsilon_cutoff > 0, need=Need.TOTAL),
    Filter(name="eta_cutoff", is_on=lambda row: row.eta_cutoff > 0, need=Need.EACH),
    Filter(name="xtc", is_on=lambda row: (row.xtc_probability > 0) & (row.xtc_threshold <= 0.5), need=Need.TOTAL),
    Filter(name="joint", is_on=lambda row: (row.top_k > 0) | (row.top_p < 1), need=Need.TOTAL),
)
"""Every filter; a filter's place is its number in compiled code."""

ORDERS: dict[Order, tuple[str, ...]] = {
    Order.HUGGING_FACE: (
        *("temperature", "top_n_sigma", "top_k", "top_p", "min_p"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"),
    ),
    Order.VLLM: (
        *("temperature", "top_n_sigma", "min_p", "top_k", "top_p"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"),
    ),
    Order.LLAMA_CPP: (
        *("top_n_sigma", "top_k", "typical_p", "top_p", "min_p"),
        *("epsilon_cutoff", "eta_cutoff", "xtc", "temperature"),
    ),
    Order.JOINT: (
        *("temperature", "top_n_sigma", "joint", "min_p"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"),
    ),
}
"""Steps 6 and 7 of each order, first to last: the temperature, and filters by name."""

TEMPERATURE_IS_LAST = frozenset(order for order, steps in ORDERS.items() if steps[-1] == "temperature")
"""The orders whose filters judge the row at T = 1."""
