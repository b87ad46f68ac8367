"""The table of filters (`sampling.parameters`) in compiled code: numbers of filters, their orders, which are on.

What the table says in Python functions is compiled as it stands, and chosen between by branches that are laid out here
when this is imported. A new filter that is a threshold needs nothing here.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Order
from samplerd_server.sampling import parameters
from samplerd_server.sampling.kernels.arithmetic import exp
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.parameters import FILTER_ORDERS, FILTERS, Need
from samplerd_server.sampling.thresholds import thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "EACH",
    "JOINT",
    "KEEPS_FIRST",
    "LARGEST",
    "ORDERS",
    "SIGMA",
    "TEMPERATURE_IS_LAST",
    "TOP_H",
    "TOP_K",
    "TOP_P",
    "TOTAL",
    "TYPICAL",
    "XTC",
    "filters_on",
    "first_on",
    "has_token_penalties",
    "is_on",
    "is_threshold",
    "needs_of",
    "threshold",
]

_NUMBERS = {own.name: at for at, own in enumerate(FILTERS)}
SIGMA, TOP_K, TOP_P = _NUMBERS["top_n_sigma"], _NUMBERS["top_k"], _NUMBERS["top_p"]
TYPICAL, TOP_H, XTC, JOINT = _NUMBERS["typical_p"], _NUMBERS["top_h"], _NUMBERS["xtc"], _NUMBERS["joint"]

_LONGEST = max(map(len, FILTER_ORDERS.values()))
ORDERS = np.full((1 + max(Order), _LONGEST), -1, np.int64)
"""The filters of each order, first to last, by number of the order; -1 past the end of a shorter one."""
for _order, _filters in FILTER_ORDERS.items():
    ORDERS[_order, : len(_filters)] = [_NUMBERS[own.name] for own in _filters]
TEMPERATURE_IS_LAST = np.array([number in parameters.TEMPERATURE_IS_LAST for number in range(1 + max(Order))])
"""Whether the temperature comes after the filters, by number of the order."""

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
    """Tell whether the bits of `filters_on` have a filter; the number past the end of an order has none."""
    return number >= 0 and (filters >> number) & 1 != 0


@jit
def first_on(filters, numbers):
    """Find the place in an order of the first filter that is on; its length if none is."""
    for place in range(len(numbers)):
        if is_on(filters, numbers[place]):
            return place
    return len(numbers)


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
