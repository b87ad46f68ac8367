"""XTC: dropping all but the least likely of the likely, on the numbers that other filters have kept.

Law: `reference/filters.py`. What XTC drops is no prefix where it spares exempt tokens, or the lowest id of equals.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import XtcExemption
from samplerd_server.sampling.kernels.compile import inlined, jit, load_i32
from samplerd_server.sampling.kernels.filter_table import (
    TIES_ALL,
    TIES_HIGHEST,
    XTC,
    tie_rule,
)
from samplerd_server.sampling.kernels.philox import XTC as XTC_PURPOSE
from samplerd_server.sampling.kernels.philox import uniform
from samplerd_server.sampling.kernels.radix_select import (
    ANY_MASS,
    count_equal,
    fill_keys,
    find_prefix,
)
from samplerd_server.sampling.kernels.units import (
    count_reaching,
    is_above,
)

__all__ = ["xtc"]

_WHOLE_ROW = int(XtcExemption.ROW)


class _Dropped(NamedTuple):
    """What XTC would drop: all above a key, and some with that key, in order of position."""

    last_key: Any
    skip: Any
    """How many with that key come before those that are dropped."""
    ties: Any
    """How many with that key are dropped."""


@jit
def xtc(row, scale, work, count, total, rest):
    """Drop all but the least likely of those with probability >= xtc_threshold, if the row's own noise says so."""
    first = row.draw_offset - np.uint64(row.drawn)  # one decision for all draws of the row, in whichever part they are
    if not uniform(row.seed, first, row.row_index, XTC_PURPOSE) < row.xtc_probability:
        return count
    needed = np.int64(np.ceil(row.xtc_threshold * np.float64(total)))
    if is_above(scale, rest, needed):
        return -1
    length, last_key, is_prefix = count_reaching(work, count, needed)
    if length < 2:
        return count
    low, high = fill_keys(work.y, work.key, count)
    # Those that reach the threshold are the prefix of this length, all that are equal to its last among them.
    if is_prefix:
        equal = count_equal(work, count, last_key)
    else:
        last_key, equal, _ = find_prefix(low, high, work.mass, count, length, ANY_MASS, False, work)
    rule = tie_rule(row, XTC)
    own = _Dropped(last_key, 1 if rule == TIES_HIGHEST else 0, np.int64(0) if rule == TIES_ALL else equal - 1)
    exempt = _mark_exempt(row, work, count, own) if row.xtc_exempt_ids_len else np.int64(0)
    is_left_alone = row.xtc_exemption == _WHOLE_ROW and exempt > 0
    kept = count
    if not is_left_alone and count - (length - equal + own.ties) + exempt >= row.min_tokens_to_keep:
        kept = _drop(row, work, count, own)
    if row.xtc_exempt_ids_len:
        _unmark_exempt(row, work)
    return kept


@inlined
def _token_at(row, work, position):
    """Find the token at a position of the row."""
    return work.tokens[position] if row.candidate_ids else np.int32(position)


@jit
def _is_dropped(dropped, key, seen):
    """Tell whether what has this key is dropped; seen: how many with the last key there were, this one included."""
    is_tie = (key == dropped.last_key) & (seen > dropped.skip) & (seen <= dropped.skip + dropped.ties)
    return (key > dropped.last_key) | is_tie


@jit
def _mark_exempt(row, work, count, dropped):
    """Mark exempt tokens in counts. Returns how many of them would be dropped."""
    for i in range(row.xtc_exempt_ids_len):
        work.counts[load_i32(row.xtc_exempt_ids, i)] = 1
    exempt, seen = np.int64(0), np.int64(0)
    for i in range(count):
        seen += work.key[i] == dropped.last_key
        if _is_dropped(dropped, work.key[i], seen):
            exempt += work.counts[_token_at(row, work, work.at[i])]
    return exempt


@jit
def _unmark_exempt(row, work):
    for i in range(row.xtc_exempt_ids_len):
        work.counts[load_i32(row.xtc_exempt_ids, i)] = 0


@jit
def _drop(row, work, count, dropped):
    """Drop these of y, at and mass, but no marked tokens; return the count."""
    kept, seen = np.int64(0), np.int64(0)
    keys, y, at, mass = work.key, work.y, work.at, work.mass
    for i in range(count):
        seen += keys[i] == dropped.last_key
        is_first = _is_dropped(dropped, keys[i], seen)
        is_exempt = is_first and row.xtc_exempt_ids_len > 0 and work.counts[_token_at(row, work, at[i])] != 0
        y[kept] = y[i]
        at[kept] = at[i]
        mass[kept] = mass[i]
        kept += (not is_first) | is_exempt
    return kept
