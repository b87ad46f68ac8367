"""What a batch is before it is launched: its records, which rows are changed, and which have lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.cuda.candidates import find_tokens
from samplerd_server.sampling.cuda.change_record import CHANGES_PITCH, Change
from samplerd_server.sampling.cuda.changes import are_changed, are_dynamic, are_smoothed, become_logits, make_changes
from samplerd_server.sampling.cuda.columns import Columns
from samplerd_server.sampling.cuda.history import read_ids
from samplerd_server.sampling.cuda.keep import MOST
from samplerd_server.sampling.cuda.records import make_records, set_temperature
from samplerd_server.sampling.cuda.rows import Field, Mode
from samplerd_server.sampling.cuda.scope import are_few
from samplerd_server.sampling.cuda.steps import early_rows, late_rows, write_late, write_steps
from samplerd_server.sampling.shapes import is_shaped as is_shaped_by
from samplerd_server.sampling.shapes import moving_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["Plan", "make_plan"]

_OF_RECORDS = [Change.SOURCE, Change.FIRST, Change.SECOND, Change.GUIDANCE]
_ADAPTIVE_STATE = ("adaptive_weighted_sum", "adaptive_total_weight")
_RAW = int(OutputFlags.RAW | OutputFlags.ENTROPY_RAW)
_SCALED = int(OutputFlags.SCALED | OutputFlags.ENTROPY_SCALED | OutputFlags.RANK | OutputFlags.KEPT)
"""The flags of outputs that need the raw, and the scaled distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The records of a batch of B rows, and what is done with them. Addresses of copies and lists are left open."""

    records: NDArray[np.int64]
    """int64[R, PITCH]: of rows as they were sent, then of other distributions."""
    as_sent: NDArray[np.int64]
    """The records that lie in the memory of the batch, and are measured first."""
    copies: NDArray[np.int64]
    """The records of copies."""
    changed: NDArray[np.int64]
    """Those of them that are changed before filters, and measured for themselves."""
    copy_at: NDArray[np.int64]
    """int64[R]: where the copy of each begins among all."""
    copied: int
    """The length of all copies."""
    changes: NDArray[np.int64]
    """int64[N, CHANGES_PITCH]."""
    selected: NDArray[np.int64]
    """The records from which lists are made."""
    listed: NDArray[np.int64]
    """The records of these lists, in the same order."""
    wide_lists: int
    """The length of those lists that `narrow` makes; they come first."""
    lists: int
    """The length of all lists."""


def _numbered(where: NDArray[np.bool_], begin: int) -> tuple[NDArray[np.int64], int]:
    """Give some of the rows numbers from `begin` on, and the others -1: int64[B]; and return the next number."""
    return np.where(where, begin + np.cumsum(where) - 1, -1), begin + int(where.sum())


def _at_one(rows: NDArray[np.void], some: NDArray[np.bool_]) -> NDArray[np.void]:
    """Give some of the rows, bool[B], a temperature of 1: what they are drawn from has been divided by theirs."""
    if some.any():
        rows = rows.copy()
        rows["temperature"] = np.where(some, 1.0, rows["temperature"])
    return rows


def _never(rows: NDArray[np.void], some: NDArray[np.bool_]) -> NDArray[np.void]:
    """Leave some of the rows, bool[B], unsmoothed, and their temperature as it is: both come later."""
    if some.any():
        rows = rows.copy()
        for name in ("smoothing_factor", "dynamic_temperature_range"):
            rows[name] = np.where(some, 0.0, rows[name])
    return rows


def _write_modes(
    records: NDArray[np.int64], rows: NDArray[np.void], smoothed: NDArray[np.bool_], shaped: NDArray[np.bool_]
) -> None:
    records[:, Field.MODE] = (smoothed | shaped) * int(Mode.SUMMED) | shaped * int(Mode.SHAPED)
    records[:, Field.MODE] |= (rows["adaptive_target"] > 0) * int(Mode.ADAPTIVE)
    records[:, Field.MODE] |= are_dynamic(rows) * int(Mode.DYNAMIC)
    records[shaped, Field.SKEW] = rows["skew"][shaped].astype(np.float64).view(np.int64)
    for at in np.flatnonzero(shaped & (rows["adaptive_target"] > 0)).tolist():
        state = (float(rows[name][at]) for name in ("adaptive_target", *_ADAPTIVE_STATE))
        records[at, Field.TARGET] = np.float64(moving_target(*state)).view(np.int64)


def _place_copies(
    changed: NDArray[np.int64], late: NDArray[np.int64], of_row: NDArray[np.int64], records: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Say where the copy of each record begins, int64[R], and how long all are.

    changed, late: int64[B], the lengths of the copies of both kinds; of_row: int64[R], whose record each is; records:
    int64[B], those of late copies, -1 = none.
    """
    copied = int(changed.sum())
    copy_at = (np.cumsum(changed) - changed)[of_row]
    copy_at[records[records >= 0]] = (copied + np.cumsum(late) - late)[records >= 0]
    return copy_at, copied + int(late.sum())


def _place_lists(
    records: NDArray[np.int64], widths: NDArray[np.int64], wide: NDArray[np.int64], few: NDArray[np.int64]
) -> int:
    """Say where the lists of rows begin: those of `narrow`, then those of `keep`. Returns the length of the former."""
    records[wide, Field.LIST_AT] = np.cumsum(widths[wide]) - widths[wide]
    wide_lists = int(widths[wide].sum())
    records[few, Field.LIST_AT] = wide_lists + MOST * np.arange(len(few))
    return wide_lists


def _write_guidance(records: NDArray[np.int64], some: NDArray[np.int64], rows: NDArray[np.void]) -> None:
    """Make some of the records those of the guidance rows of rows, ROW[N]: int64[N]. Their sums are not asked for."""
    records[some, Field.ADDRESS] = rows["guidance"].astype(np.uint64).view(np.int64)
    records[some, Field.DTYPE] = rows["guidance_dtype"]
    records[some, Field.INVERSE] = np.float64(-1.0).view(np.int64)


def _place_named(records: NDArray[np.int64], rows: NDArray[np.void], hold: Callable[[NDArray[Any]], int]) -> None:
    """Say where the named candidates of rows lie."""
    for at in np.flatnonzero((rows["candidate_ids"] != 0) & (rows["named_len"] > 0)).tolist():
        records[at, Field.NAMED] = hold(find_tokens(rows[at], read_ids(rows[at], "named", "named_len")))


def _plan_plain(rows: NDArray[np.void]) -> Plan:
    """Plan rows that are drawn from as they were sent, and have no outputs."""
    records, none = make_records(rows), np.empty(0, np.int64)
    return Plan(
        records=records,
        as_sent=np.arange(len(rows)),
        copies=none,
        changed=none,
        copy_at=none,
        copied=0,
        changes=np.empty((0, CHANGES_PITCH), np.int64),
        selected=none,
        listed=none,
        wide_lists=0,
        lists=0,
    )


def make_plan(rows: NDArray[np.void], hold: Callable[[NDArray[Any]], int]) -> Plan:
    """Plan a batch of rows, ROW[B]; hold: see `make_changes`."""
    is_plain = rows["plain"].all() and not rows["output_flags"].any()
    return _plan_plain(rows) if is_plain else _plan_any(rows, hold)


def _plan_any(rows: NDArray[np.void], hold: Callable[[NDArray[Any]], int]) -> Plan:
    all_rows, is_late = rows, late_rows(rows)
    changed_rows = _never(rows, is_late)
    rows = _at_one(rows, are_smoothed(changed_rows))
    base, count = make_records(rows), len(rows)
    temperature, flags = rows["temperature"], rows["output_flags"].astype(np.int64)
    needs_raw, needs_scaled = (flags & _RAW) != 0, (flags & _SCALED) != 0
    is_changed, is_few, is_cold = are_changed(changed_rows), are_few(rows), temperature == 0
    (is_filtered, is_early), is_shaped = early_rows(rows), is_shaped_by(Columns(rows)) & ~is_cold
    is_wide = (is_filtered | is_shaped) & ~is_few & (is_early | ~is_cold)
    _write_modes(base, all_rows, are_smoothed(all_rows), is_shaped)
    write_late(base, all_rows, is_late)
    # Records: as sent, changed, changed at T = 1, as sent at T = 1, at a late temperature, guidance rows, and lists.
    sent = np.arange(count)
    changed, end = _numbered(is_changed, count)
    changed_at_one, end = _numbered(is_changed & is_cold & needs_scaled, end)
    at_one, end = _numbered(~is_changed & (temperature != 1) & (needs_raw | (is_cold & needs_scaled)), end)
    late, end = _numbered(is_late & needs_scaled, end)
    guidance, end = _numbered(rows["guidance"] != 0, end)
    lists, end = _numbered(is_few | is_wide, end)
    own = np.where(is_changed, changed, sent)
    _place_named(base, rows, hold)
    base[:, Field.RAW] = np.where(needs_raw, np.where(at_one >= 0, at_one, sent), -1)
    hot = np.where(is_cold, np.where(is_changed, changed_at_one, at_one), own)
    base[:, Field.SCALED] = np.where(needs_scaled, np.where(is_late, late, hot), -1)
    base[:, Field.FINAL] = np.where(lists >= 0, lists, own)
    widths = rows["width"].astype(np.int64)
    wide, few = np.flatnonzero(is_wide), np.flatnonzero(is_few)
    wide_lists = _place_lists(base, widths, wide, few)
    write_steps(base, rows, wide, hold)
    parts = [
        sent,
        *(np.flatnonzero(numbers >= 0) for numbers in (changed, changed_at_one, at_one, late, guidance, lists)),
    ]
    of_row = np.concatenate(parts)
    records = base[of_row]
    is_one = np.isin(np.arange(end), np.concatenate([own_at[own_at >= 0] for own_at in (changed_at_one, at_one)]))
    is_one[np.flatnonzero(is_changed)] = True  # a changed row as it was sent is its raw distribution
    measured = np.concatenate([changed[changed >= 0], changed_at_one[changed_at_one >= 0]])
    copies = np.concatenate([measured, late[late >= 0]])
    is_copy = np.isin(np.arange(end), copies)
    is_list = np.arange(end) >= end - int((lists >= 0).sum())
    is_logits = (is_copy | (is_list & is_changed[of_row])) & become_logits(changed_rows)[of_row]
    is_one |= is_list & is_shaped[of_row]
    records[is_logits | (is_list & is_shaped[of_row]), Field.IS_WEIGHTS] = 0
    records[is_copy | is_list, Field.DTYPE] = Dtype.F32
    records[is_list & is_few[of_row], Field.WIDTH] = MOST
    set_temperature(records, np.where(is_one, 1.0, temperature[of_row]))
    guided = guidance[guidance >= 0]
    _write_guidance(records, guided, rows[guidance >= 0])
    copy_at, copied = _place_copies(np.where(is_changed, widths, 0), np.where(late >= 0, widths, 0), of_row, late)
    changes = make_changes(changed_rows, np.flatnonzero(is_changed), hold)
    changes[:, _OF_RECORDS] = np.stack([sent, changed, changed_at_one, guidance], axis=1)[is_changed]
    some = np.concatenate([wide, few])
    return Plan(
        records=records,
        as_sent=np.concatenate([sent, at_one[at_one >= 0], guided]),
        copies=copies,
        changed=measured,
        copy_at=copy_at,
        copied=copied,
        changes=changes,
        selected=own[some],
        listed=lists[some],
        wide_lists=wide_lists,
        lists=wide_lists + MOST * len(few),
    )
