"""Row groups: rows of similar width that take the same path are computed together, as many as fit.

Rule 1: which rows are grouped changes nothing but the speed (portable/__init__.py, rule 1). Rule 2: decided from the
records alone, before anything is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Dtype, FilterStep, InputKind, Order
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.noise import Purpose, uniform, uniforms
from samplerd_server.sampling.parameters import FILTERS, ORDERS
from samplerd_server.sampling.portable.records import Fields

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from numpy.typing import NDArray

__all__ = ["FULL_SHARE", "RowGroup", "draw_uniforms", "group_rows"]

FULL_SHARE = 4
"""Part of a group's numbers where all of each row is listed: some twenty tensors of float64 in place of five."""
_LIST_ALL = frozenset({"typical_p", "eta_cutoff", "top_h", "xtc"})
"""Filters that decide nothing, or drop nothing of the tail, before all of a row is listed."""
_FEW_DRAWS = 8
"""Below this many uniforms plain integers are faster than numpy: 10 us each against 120 us for any array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Rows that are computed together."""

    rows: NDArray[np.int64]
    """int64[B]: their positions in the batch."""
    records: NDArray[np.void]
    """ROW[B]."""
    is_plain: bool
    """Temperature is the only parameter, and only the basic outputs are asked for."""
    is_greedy: bool
    """T = 0."""
    steps: tuple[str, ...]
    """Steps 6 and 7 in the order that all their rows have."""
    is_early: bool
    """Some filter comes before the temperature."""
    is_sparse: bool
    """Rows of candidates."""
    has_filters: bool
    """Some filter is on; with T = 0, some filter that comes before the temperature."""
    is_full: bool
    """List all of each row for the filters at once: they are certain to look beyond the head of the order."""
    without: bool
    """Drawn without replacement."""
    output_flags: OutputFlags
    """The outputs that any of them asks for."""

    @property
    def dtype(self) -> Dtype:
        """How all their numbers are stored."""
        return Dtype(int(self.records["dtype"][0]))

    @property
    def kind(self) -> InputKind:
        """What all their numbers mean."""
        return InputKind(int(self.records["kind"][0]))

    @property
    def guidance_dtype(self) -> Dtype | None:
        """How the numbers of all their guidance rows are stored; None = they are not guided."""
        number = int(self.records["guidance_dtype"][0])
        return Dtype(number) if number else None

    @property
    def draws(self) -> int:
        """S: the largest number of samples of any of them."""
        return int(self.records["num_samples"].max())

    def some(self, indices: list[int], limit: int) -> Iterator[RowGroup]:
        """Divide some rows of the group into groups of at most `limit` numbers each (one row at least)."""
        step = _fitting(self.records, limit)
        for at in range(0, len(indices), step):
            own = indices[at : at + step]
            yield replace(self, rows=self.rows[own], records=self.records[own])


def filters_on(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """bool[B]: whether a row has any filter on."""
    fields = Fields(records)
    is_on: NDArray[np.bool_] = reduce(or_, (own.is_on(fields) for own in FILTERS))
    return is_on


def _steps_of(record: np.void) -> tuple[str, ...]:
    """Name steps 6 and 7 of a row, first to last."""
    if not record["steps_len"]:
        return ORDERS[Order(int(record["order"]))]
    numbers = read_bytes(int(record["steps"]), 4 * int(record["steps_len"])).view("<i4").tolist()
    return tuple(FilterStep(number).name.lower() for number in numbers)


def _early_filters(records: NDArray[np.void], steps: tuple[str, ...]) -> NDArray[np.bool_]:
    """bool[B]: whether a filter is on that comes before the temperature."""
    early = steps[: steps.index("temperature")] if "temperature" in steps else steps
    fields, nothing = Fields(records), np.zeros(len(records), bool)
    is_on: NDArray[np.bool_] = reduce(or_, (own.is_on(fields) for own in FILTERS if own.name in early), nothing)
    return is_on


def _full_lists(records: NDArray[np.void], steps: tuple[str, ...]) -> NDArray[np.bool_]:
    """bool[B]: whether the first filter that is on needs every number of its row, or leaves the tail of it.

    What the filters keep of such a row ends within the head of its order only if the row itself does.
    """
    fields, nothing = Fields(records), np.zeros(len(records), bool)
    is_first, is_full = ~nothing, nothing
    for own in sorted((own for own in FILTERS if own.name in steps), key=lambda own: steps.index(own.name)):
        is_on = own.is_on(fields)
        is_full = is_full | (is_first & is_on & (own.name in _LIST_ALL))
        is_first = is_first & ~is_on
    return is_full


def group_rows(records: NDArray[np.void], limit: int) -> Iterator[RowGroup]:
    """Divide the rows of a batch, ROW[B], into groups of at most `limit` numbers each (one row at least).

    Groups whose rows are listed in full have a `FULL_SHARE` of that.
    """
    groups: dict[tuple[Hashable, ...], list[int]] = {}
    has_filters, early, steps = filters_on(records), np.zeros(len(records), bool), _all_steps(records)
    full = np.zeros(len(records), bool)
    for own_steps in set(steps):
        where = np.array([row for row, each in enumerate(steps) if each == own_steps])
        early[where] = _early_filters(records[where], own_steps)
        full[where] = _full_lists(records[where], own_steps)
    is_cold = records["temperature"] == 0
    has_filters = np.where(is_cold, early, has_filters)
    for row, key in enumerate(
        zip(*_keys(records), has_filters.tolist(), early.tolist(), full.tolist(), steps, strict=True)
    ):
        groups.setdefault(key, []).append(row)
    for rows in groups.values():
        is_full = bool(full[rows[0]])
        step = _fitting(records[rows], limit // FULL_SHARE if is_full else limit)
        for at in range(0, len(rows), step):
            members = np.array(rows[at : at + step])
            own = records[members]
            yield RowGroup(
                rows=members,
                records=own,
                is_plain=bool(own["plain"][0]),
                is_greedy=bool(own["temperature"][0] == 0.0),
                is_sparse=bool(own["candidate_ids"][0]),
                steps=steps[members[0]],
                is_early=bool(early[members[0]]),
                has_filters=bool(has_filters[members[0]]),
                is_full=is_full,
                without=bool(own["without"][0]),
                output_flags=OutputFlags(int(np.bitwise_or.reduce(own["output_flags"]))),
            )


def _fitting(records: NDArray[np.void], limit: int) -> int:
    """Count the rows as wide as the widest, ROW[B], that hold `limit` numbers; 1 at least."""
    return max(1, limit // max(int(records["width"].max()), int(records["num_samples"].max())))


def _all_steps(records: NDArray[np.void]) -> list[tuple[str, ...]]:
    """List the steps of each row."""
    if not records["steps_len"].any():
        orders = {int(order): ORDERS[order] for order in Order}
        return [orders[number] for number in records["order"].tolist()]
    return [_steps_of(record) for record in records]


def _keys(records: NDArray[np.void]) -> list[list[int]]:
    """Columns of the fields that must agree within a group; sizes are rounded up to a quarter of a power of two."""
    return [
        records["dtype"].tolist(),
        records["kind"].tolist(),
        records["plain"].tolist(),
        records["without"].tolist(),
        (records["temperature"] == 0.0).tolist(),
        (records["candidate_ids"] != 0).tolist(),
        records["ties"].tolist(),
        records["guidance_dtype"].tolist(),
        records["output_flags"].tolist(),
        [_size_class(width) for width in records["width"].tolist()],
        [draws.bit_length() for draws in records["num_samples"].tolist()],
    ]


def _size_class(width: int) -> int:
    """Classify a width, so that none of a class is more than a quarter larger than another."""
    shift = max(0, width.bit_length() - 3)
    return shift << 4 | (width - 1) >> shift


def draw_uniforms(records: NDArray[np.void], draws: int, purpose: Purpose) -> NDArray[np.float64]:
    """Compute the uniforms float64[B, draws] of rows: draw d of a row has index draw_offset + d.

    XTC is decided once for all draws of a row, by the index of the first: of those that were made in other parts, too.
    """
    first = records["draw_offset"]
    if purpose is Purpose.XTC:
        first = first - records["drawn"].astype(np.uint64)
    if len(records) * draws <= _FEW_DRAWS:
        rows = zip(records["seed"].tolist(), first.tolist(), records["row_index"].tolist(), strict=True)
        return np.array([[uniform(seed, own + d, row, purpose) for d in range(draws)] for seed, own, row in rows])
    index = first[:, None] + np.arange(draws, dtype=np.uint64)
    return uniforms(records["seed"][:, None], index, records["row_index"].astype(np.uint64)[:, None], purpose)
