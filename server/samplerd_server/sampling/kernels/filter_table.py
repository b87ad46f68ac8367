"""The table of filters (`sampling.parameters`) in compiled code: numbers of filters, their orders, which are on.

What the table says in Python functions is compiled as it stands, and chosen between by branches that are laid out here
when this is imported. A new filter that is a threshold needs nothing here.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import FilterStep, Order, TieRule
from samplerd_server.sampling import parameters
from samplerd_server.sampling.kernels.arithmetic import exp
from samplerd_server.sampling.kernels.compile import jit, load_i32
from samplerd_server.sampling.parameters import FILTERS, ORDERS, Need, rule_of
from samplerd_server.sampling.thresholds import thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "EACH",
    "JOINT",
    "KEEPS_FIRST",
    "LARGEST",
    "SIGMA",
    "TEMPERATURE",
    "TIES_ALL",
    "TIES_HIGHEST",
    "TIES_LOWEST",
    "TOP_H",
    "TOP_K",
    "TOP_P",
    "TOTAL",
    "TYPICAL",
    "XTC",
    "count_steps",
    "early_filters",
    "filters_on",
    "first_on",
    "has_token_penalties",
    "is_on",
    "is_threshold",
    "least_of",
    "needs_of",
    "step_at",
    "threshold",
    "tie_rule",
]

_NUMBERS = {own.name: at for at, own in enumerate(FILTERS)}
SIGMA, TOP_K, TOP_P = _NUMBERS["top_n_sigma"], _NUMBERS["top_k"], _NUMBERS["top_p"]
TYPICAL, TOP_H, XTC, JOINT = _NUMBERS["typical_p"], _NUMBERS["top_h"], _NUMBERS["xtc"], _NUMBERS["joint"]

TEMPERATURE = len(FILTERS)
"""The number of the temperature among the steps of an order."""
_STEPS = _NUMBERS | {"temperature": TEMPERATURE}
_LENGTHS = np.array([len(ORDERS.get(order, ())) for order in range(1 + max(Order))], np.int64)  # type: ignore[call-overload]
_ORDERS = np.full((1 + max(Order), _LENGTHS.max()), -1, np.int64)
for _order, _names in ORDERS.items():
    _ORDERS[_order, : len(_names)] = [_STEPS[name] for name in _names]
_FREE = np.full(1 + max(FilterStep), -1, np.int64)
for _step in FilterStep:
    _FREE[_step] = _STEPS[_step.name.lower()]
TIES_LOWEST, TIES_ALL, TIES_HIGHEST = int(TieRule.LOWEST_ID), int(TieRule.ALL), int(TieRule.HIGHEST_ID)
_TIES = np.array(
    [[rule_of(TieRule(rule), own.name) if rule else 0 for own in FILTERS] for rule in range(1 + max(TieRule))], np.int64
)

LARGEST, TOTAL, EACH = int(Need.LARGEST), int(Need.TOTAL), int(Need.EACH)
_NEEDS = np.array([own.needs for own in FILTERS], np.int64)
KEEPS_FIRST = np.array([own.keeps_first for own in FILTERS])
"""Whether each filter keeps a prefix of the total order."""

_THRESHOLDS = thresholds(exp=exp, sqrt=np.sqrt, minimum=min)
_IS_THRESHOLD = np.array([own.name in _THRESHOLDS for own in FILTERS])


@jit
def needs_of(row, number):
    """Tell what a filter must know of this row: `LARGEST`, `TOTAL` and `EACH`, added."""
    return _NEEDS[TOP_K] if number == JOINT and row.top_p >= 1 else _NEEDS[number]  # joint without top_p is top_k


@jit
def count_steps(row):
    """Count the steps of the row's order: the temperature, and filters that are on or off."""
    return np.int64(row.steps_len) if row.steps_len else _LENGTHS[row.order]


@jit
def step_at(row, place):
    """Give the number of the filter, or TEMPERATURE, at a place in the row's order."""
    return _FREE[load_i32(row.steps, place)] if row.steps_len else _ORDERS[row.order, place]


@jit
def tie_rule(row, number):
    """Tell what a filter does with equals where it cuts: TIES_LOWEST, TIES_ALL or TIES_HIGHEST."""
    return _TIES[row.ties, number]


@jit
def least_of(row, number):
    """Tell how many a filter keeps at least."""
    return 1 if row.top_k_is_exact and number in (TOP_K, SIGMA) else max(np.int64(row.min_tokens_to_keep), 1)


has_token_penalties = jit(parameters.has_token_penalties)


def _filters_on(at: int) -> Callable[[Any], Any]:
    """Make the function of the filters from number `at`: each adds its bit, without a branch."""
    if at == len(FILTERS):
        return jit(lambda _row: np.int64(0))
    is_own, others = jit(FILTERS[at].is_on), _filters_on(at + 1)
    return jit(lambda row: (np.int64(is_own(row)) << np.int64(at)) | others(row))


filters_on = _filters_on(0)
"""Takes a row's record; returns one bit for each filter that the row has on, the lowest for filter 0."""


@jit
def is_on(filters, number):
    """Tell whether the bits of `filters_on` have a filter; TEMPERATURE is none."""
    return (filters >> number) & 1 != 0


@jit
def first_on(row, filters, begin):
    """Find the place in the row's order, from `begin` on, of the first filter that is on; its length if none is."""
    steps = count_steps(row)
    for place in range(begin, steps):
        if is_on(filters, step_at(row, place)):
            return place
    return steps


@jit
def early_filters(row, filters):
    """Tell whether a filter that is on comes before the temperature: it judges the row at T = 1."""
    place = first_on(row, filters, 0)
    for other in range(place):
        if step_at(row, other) == TEMPERATURE:
            return False
    return place < count_steps(row)


def _threshold(at: int) -> Callable[..., Any]:
    """Make the function that chooses between the formulas from number `at`."""
    if at == len(FILTERS):
        return jit(lambda _number, _row, _largest, _total, _entropy: np.inf)
    name, others = FILTERS[at].name, _threshold(at + 1)
    if name not in _THRESHOLDS:
        return others
    formula = jit(_THRESHOLDS[name])

    @jit
    def choose(number, row, largest, total, entropy):
        if number == at:
            return formula(row[name], largest, total, entropy)
        return others(number, row, largest, total, entropy)

    return choose


threshold = _threshold(0)
"""Takes a filter's number, the row's record, and what `sampling.thresholds` takes; returns the smallest mass kept."""


@jit
def is_threshold(number):
    """Tell whether a filter is one formula."""
    return _IS_THRESHOLD[number]
