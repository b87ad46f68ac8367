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

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.noise import Purpose, uniform, uniforms
from samplerd_server.sampling.parameters import FILTERS, TEMPERATURE_IS_LAST
from samplerd_server.sampling.portable.records import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["RowGroup", "draw_uniforms", "group_rows", "is_temperature_last"]

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
    is_sparse: bool
    """Rows of candidates."""
    has_filters: bool
    """Some filter is on."""
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

    def only(self, index: int) -> RowGroup:
        """One row of the group, alone."""
        return replace(self, rows=self.rows[index : index + 1], records=self.records[index : index + 1])


def filters_on(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """bool[B]: whether a row has any filter on."""
    fields = Fields(records)
    is_on: NDArray[np.bool_] = reduce(or_, (own.is_on(fields) for own in FILTERS))
    return is_on


def is_temperature_last(records: NDArray[np.void]) -> bool:
    """Tell whether the filters of a group's rows, of one order, judge the row at T = 1."""
    return int(records["order"][0]) in TEMPERATURE_IS_LAST


def group_rows(records: NDArray[np.void], limit: int) -> Iterator[RowGroup]:
    """Divide the rows of a batch, ROW[B], into groups of at most `limit` numbers each (one row at least)."""
    groups: dict[tuple[int, ...], list[int]] = {}
    has_filters = filters_on(records).tolist()
    for row, key in enumerate(zip(*_keys(records), has_filters, strict=True)):
        groups.setdefault(key, []).append(row)
    for rows in groups.values():
        widest = int(records["width"][rows].max())
        deepest = int(records["num_samples"][rows].max())
        step = max(1, limit // max(widest, deepest))
        for at in range(0, len(rows), step):
            members = np.array(rows[at : at + step])
            own = records[members]
            yield RowGroup(
                rows=members,
                records=own,
                is_plain=bool(own["plain"][0]),
                is_greedy=bool(own["temperature"][0] == 0.0),
                is_sparse=bool(own["candidate_ids"][0]),
                has_filters=has_filters[members[0]],
                without=bool(own["without"][0]),
                output_flags=OutputFlags(int(np.bitwise_or.reduce(own["output_flags"]))),
            )


def _keys(records: NDArray[np.void]) -> list[list[int]]:
    """Columns of the fields that must agree within a group; sizes are rounded up to a quarter of a power of two."""
    return [
        records["dtype"].tolist(),
        records["kind"].tolist(),
        records["plain"].tolist(),
        records["without"].tolist(),
        (records["temperature"] == 0.0).tolist(),
        (records["candidate_ids"] != 0).tolist(),
        records["order"].tolist(),
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
