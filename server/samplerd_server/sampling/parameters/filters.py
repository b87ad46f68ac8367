"""The filters: which parameters turn each on, what each must know of a row, and the orders that they run in.

A filter has the name of its parameter; `xtc` is that of two, and `joint` is top_k and top_p judged together. `is_on` is
one text for every sampler: it takes whatever has the parameters as attributes (`core.params.SamplingParams`, a record
in compiled code, a numpy recarray, columns on a torch device), and is written with operators that all of them have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from samplerd_server.core.enums import FilterStep, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.core.params import SamplingParams

__all__ = [
    "FILTERS",
    "ORDERS",
    "Filter",
    "Need",
    "early_filters",
    "has_random_filter",
    "has_token_penalties",
    "steps_of",
]


class Need(IntFlag):
    """What a filter must know of a row, beside which categories come first: it decides which candidates can be used."""

    NONE = 0
    LARGEST = 1
    """The largest probability, beside that of another category. Known of candidates always."""
    TOTAL = 2
    """The mass of all categories. Known of candidates at T = 1 with no mask, bias or penalty on what was not sent."""
    EACH = 4
    """Every single probability: an entropy, a standard deviation. Known only when nothing is left unsent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter."""

    name: str
    is_on: Callable[[Any], Any]
    """Takes the parameters of a row, or of rows; see the module."""
    needs: Need
    keeps_first: bool = True
    """Whether it keeps a prefix of the total order, and with it the most likely."""


FILTERS: tuple[Filter, ...] = (
    Filter(name="top_n_sigma", is_on=lambda row: row.top_n_sigma > 0, needs=Need.EACH),
    Filter(name="top_k", is_on=lambda row: row.top_k > 0, needs=Need.NONE),
    Filter(name="top_p", is_on=lambda row: row.top_p < 1, needs=Need.TOTAL),
    Filter(name="min_p", is_on=lambda row: row.min_p > 0, needs=Need.LARGEST),
    Filter(name="top_a", is_on=lambda row: row.top_a > 0, needs=Need.LARGEST | Need.TOTAL),
    Filter(name="typical_p", is_on=lambda row: row.typical_p < 1, needs=Need.TOTAL | Need.EACH, keeps_first=False),
    Filter(name="epsilon_cutoff", is_on=lambda row: row.epsilon_cutoff > 0, needs=Need.TOTAL),
    Filter(name="eta_cutoff", is_on=lambda row: row.eta_cutoff > 0, needs=Need.TOTAL | Need.EACH),
    Filter(name="top_h", is_on=lambda row: row.top_h < 1, needs=Need.TOTAL | Need.EACH),
    Filter(
        name="xtc",
        is_on=lambda row: (row.xtc_probability > 0) & (row.xtc_threshold <= 0.5),
        needs=Need.TOTAL,
        keeps_first=False,
    ),
    Filter(name="joint", is_on=lambda row: (row.top_k > 0) | (row.top_p < 1), needs=Need.TOTAL),
)
"""Every filter; its place is its number in compiled code, where nobody writes it."""

ORDERS: dict[Order, tuple[str, ...]] = {
    Order.HUGGING_FACE: (
        *("temperature", "top_n_sigma", "top_h", "top_k", "top_p", "min_p", "top_a"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"),
    ),
    Order.VLLM: (
        *("temperature", "top_n_sigma", "min_p", "top_a", "top_k", "top_p"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "xtc"),
    ),
    Order.LLAMA_CPP: (
        *("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "top_a"),
        *("epsilon_cutoff", "eta_cutoff", "top_h", "xtc", "temperature"),
    ),
    Order.JOINT: (
        *("temperature", "top_n_sigma", "joint", "min_p", "top_a"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "xtc"),
    ),
}
"""Steps 6 and 7 of each order, first to last: the temperature, and filters by name."""

_BY_NAME = {own.name: own for own in FILTERS}


def steps_of(params: SamplingParams) -> tuple[str, ...]:
    """Name steps 6 and 7 of a row, first to last: those it lists itself, or those of its order."""
    if params.steps is None:
        return ORDERS[params.order]
    return tuple(FilterStep(number).name.lower() for number in params.steps.tolist())


def early_filters(params: SamplingParams) -> tuple[Filter, ...]:
    """List the filters that are on and come before the temperature: they judge the row at T = 1."""
    steps = steps_of(params)
    early = steps[: steps.index("temperature")] if "temperature" in steps else steps
    return tuple(_BY_NAME[name] for name in early if _BY_NAME[name].is_on(params))


def has_token_penalties(row: Any) -> Any:
    """Tell whether the tokens of history change by something other than DRY. Takes what `Filter.is_on` takes."""
    return (row.repetition_penalty != 1) | (row.frequency_penalty != 0) | (row.presence_penalty != 0)


def has_random_filter(row: Any) -> Any:
    """Tell whether the row's own noise may decide what is kept (XTC), so that its draws share no fixed distribution."""
    return row.xtc_probability > 0
