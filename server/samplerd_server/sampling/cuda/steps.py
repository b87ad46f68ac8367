"""Steps 6 and 7 of rows as `narrow` takes them: which filters are on, in which order, and by which rules.

Law: `kernels/filter_table.py`, whose numbers of filters these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import FilterStep, Order, TieRule, XtcExemption
from samplerd_server.sampling.cuda.candidates import find_tokens
from samplerd_server.sampling.cuda.columns import Columns
from samplerd_server.sampling.cuda.history import read_ids
from samplerd_server.sampling.cuda.rows import Field, Mode
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.parameters import FILTERS, ORDERS, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["early_rows", "late_rows", "write_late", "write_steps"]

_TEMPERATURE = len(FILTERS)
_NUMBERS = {own.name: at for at, own in enumerate(FILTERS)} | {"temperature": _TEMPERATURE}
_TIES = [
    sum(int(rule_of(TieRule(rule), own.name)) << (2 * at) for at, own in enumerate(FILTERS)) if rule else 0
    for rule in range(1 + max(TieRule))
]
_DOUBLES = {
    Field.TOP_N_SIGMA: "top_n_sigma",
    Field.TOP_A: "top_a",
    Field.TYPICAL_P: "typical_p",
    Field.EPSILON: "epsilon_cutoff",
    Field.ETA: "eta_cutoff",
    Field.TOP_H: "top_h",
    Field.XTC_PROBABILITY: "xtc_probability",
    Field.XTC_THRESHOLD: "xtc_threshold",
}

_LATE = {
    Field.SMOOTHING: "smoothing_factor",
    Field.CURVE: "smoothing_curve",
    Field.RANGE: "dynamic_temperature_range",
    Field.EXPONENT: "dynamic_temperature_exponent",
}


def _filters_on(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Make a bit for each filter that is on: int64[B]."""
    own = Columns(rows)
    bits = np.zeros(len(rows), np.int64)
    for at, one in enumerate(FILTERS):
        bits |= np.asarray(one.is_on(own)).astype(np.int64) << at
    return bits


def _numbers_of(row: np.void) -> list[int]:
    """List the numbers of a row's steps, first to last."""
    if row["steps_len"]:
        listed = read_bytes(int(row["steps"]), 4 * int(row["steps_len"])).view(np.int32)
        return [_NUMBERS[FilterStep(step).name.lower()] for step in listed.tolist()]
    return [_NUMBERS[name] for name in ORDERS[Order(int(row["order"]))]]


def _first_on(steps: list[int], filters: int) -> int:
    """Find the place of the first filter that is on; how many steps there are if none is."""
    return next((place for place, number in enumerate(steps) if (filters >> number) & 1), len(steps))


def _begins(steps: list[int], filters: int) -> tuple[bool, bool]:
    """Tell whether one of the steps is a filter that is on, and whether it comes before the temperature."""
    first = _first_on(steps, filters)
    is_filtered = first < len(steps)
    return is_filtered, is_filtered and _TEMPERATURE not in steps[:first]


def early_rows(rows: NDArray[np.void]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which of rows, ROW[B], have a filter on, and which have one before the temperature: bool[B] each."""
    on = _filters_on(rows)
    is_filtered, is_early = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for at in np.flatnonzero((on != 0) & (rows["steps_len"] > 0)).tolist():
        is_filtered[at], is_early[at] = _begins(_numbers_of(rows[at]), int(on[at]))
    usual = (on != 0) & (rows["steps_len"] == 0)
    for order, filters in {*zip(rows["order"][usual].tolist(), on[usual].tolist(), strict=True)}:
        some = usual & (rows["order"] == order) & (on == filters)
        is_filtered[some], is_early[some] = _begins([_NUMBERS[name] for name in ORDERS[Order(order)]], filters)
    return is_filtered, is_early


def late_rows(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which of rows, ROW[B], get a temperature that is dynamic, or smooths, after a filter: bool[B]."""
    own: NDArray[np.bool_] = (rows["smoothing_factor"] > 0) | (rows["dynamic_temperature_range"] > 0)
    own &= rows["temperature"] > 0
    return own & early_rows(rows)[1] if own.any() else own


def write_late(records: NDArray[np.int64], rows: NDArray[np.void], late: NDArray[np.bool_]) -> None:
    """Write what gives some of rows, ROW[B], their temperature after a filter: bool[B]."""
    records[:, Field.MODE] |= late * int(Mode.LATE)
    for place, name in _LATE.items():
        records[late, place] = rows[name][late].astype(np.float64).view(np.int64)
    is_listed = rows["dynamic_temperature_counts_all"][late] != 0
    records[late, Field.LISTED] = np.where(is_listed, rows["vocab_size"][late], 0)


def write_steps(
    records: NDArray[np.int64], rows: NDArray[np.void], some: NDArray[np.int64], hold: Callable[[NDArray[Any]], int]
) -> None:
    """Write what `narrow` reads into the records of some rows: int64[N]; hold: see `make_changes`."""
    on = _filters_on(rows)
    for place, name in _DOUBLES.items():
        records[some, place] = rows[name][some].astype(np.float64).view(np.int64)
    records[some, Field.FILTERS] = on[some]
    records[some, Field.MODE] |= (rows["xtc_exemption"][some] == XtcExemption.ROW) * int(Mode.EXEMPTS_ROW)
    records[some, Field.LEAST] = np.maximum(rows["min_tokens_to_keep"][some], 1)
    records[some, Field.IS_EXACT] = rows["top_k_is_exact"][some]
    xtc_draw = rows["draw_offset"][some].astype(np.uint64) - rows["drawn"][some].astype(np.uint64)
    records[some, Field.XTC_DRAW] = xtc_draw.view(np.int64)
    for at in some[rows["xtc_exempt_ids_len"][some] > 0].tolist():
        places = np.unique(find_tokens(rows[at], read_ids(rows[at], "xtc_exempt_ids", "xtc_exempt_ids_len")))
        places = places[places >= 0]
        records[at, Field.EXEMPT], records[at, Field.EXEMPT_LEN] = hold(places), len(places)
    for at in some.tolist():
        steps = _numbers_of(rows[at])
        first = _first_on(steps, int(on[at]))
        records[at, Field.STEPS] = sum(number << (4 * place) for place, number in enumerate(steps))
        records[at, Field.STEPS_LEN], records[at, Field.FIRST_STEP] = len(steps), first
        records[at, Field.TIES] = _TIES[int(rows["ties"][at])]
        judged = 1.0 if _TEMPERATURE not in steps[:first] else float(rows["temperature"][at])
        records[at, Field.JUDGED] = np.float64(judged).view(np.int64)
