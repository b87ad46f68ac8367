"""Sharing the rows of a batch out among threads.

Which thread draws a row changes nothing about the row, so the shares only have to be of about the same price.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import InputKind
from samplerd_server.sampling import price
from samplerd_server.sampling.kernels.compile import jit, kernel
from samplerd_server.sampling.kernels.filter_table import early_filters, filters_on
from samplerd_server.sampling.parameters import FILTERS
from samplerd_server.sampling.parameters.record import LISTS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["share_out"]

_WEIGHTS = int(InputKind.PROBABILITIES)
_LIGHT_FILTERS = sum(1 << at for at, own in enumerate(FILTERS) if own.name in price.LIGHT_FILTERS)
_SPARSE_FACTOR, _BREAKER_FACTOR = price.SPARSE_FACTOR, price.BREAKER_FACTOR
_row_price, _listed_price = jit(price.row_price), jit(price.listed_price)
_shaped_price, _bent_price = jit(price.shaped_price), jit(price.bent_price)


def _items(at: int) -> Callable[[Any], Any]:
    """Make the function that counts the items of a row's lists from number `at`."""
    if at == len(LISTS):
        return jit(lambda _row: np.int64(0))
    name, others = f"{LISTS[at].name}_len", _items(at + 1)

    @jit
    def count(row):
        return np.int64(row[name]) + others(row)

    return count


_count_items = _items(0)


@jit
def _price(row):
    """Price one row, in nanoseconds: `sampling.price`."""
    numbers, is_sparse = np.float64(row.width), row.candidate_ids != 0
    is_power = row.kind == _WEIGHTS and row.temperature not in (0.0, 1.0)
    filters, guided, bent, compared = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    shaped, ids, listed = np.int64(0), 0.0, 0.0
    if not row.plain:
        on = filters_on(row)
        if row.temperature == 0 and not early_filters(row, on):
            on = np.int64(0)
        filters = np.int64(0) if on == 0 else (np.int64(1) if on & _LIGHT_FILTERS else np.int64(2))
        guided = np.int64(row.guidance_scale != 1)
        shaped = np.int64(_shaped_price(row)) if row.temperature != 0 else np.int64(0)
        bent = np.int64(_bent_price(row)) if row.temperature != 0 else np.int64(0)
        ids = np.float64(_count_items(row)) * (_SPARSE_FACTOR if is_sparse else 1.0)
        if row.dry_multiplier > 0 and row.history_len > 0:
            compared = np.int64(row.history_len)
            if row.dry_range:
                compared = min(compared, np.int64(row.dry_range))
            compared += _BREAKER_FACTOR * row.dry_breaker_sequences_ids_len
        if row.no_repeat_ngram_size > 1:
            compared += row.history_len
        listed = _listed_price(np.float64(row.top_n), np.float64(row.named_len), is_sparse)
    once, per_draw = _row_price(
        numbers,
        np.int64(is_power),
        np.int64(row.plain),
        np.int64(is_sparse),
        np.int64(row.without),
        np.float64(row.num_samples),
        np.int64(row.output_flags),
        filters,
        guided,
        bent,
        shaped,
        ids,
        np.float64(compared),
        listed,
    )
    return once + per_draw * row.num_samples


@kernel
def share_out(rows, bounds):
    """Divide rows: ROW[B] into len(bounds) - 1 consecutive shares of about equal price. Returns the whole price.

    bounds: int64[shares + 1]; share i is rows [bounds[i], bounds[i + 1]).
    """
    work = 0.0
    for i in range(len(rows)):
        work += _price(rows[i])
    shares = len(bounds) - 1
    done = 0.0
    share = 1
    bounds[0] = 0
    for i in range(len(rows)):
        done += _price(rows[i])
        while share < shares and done * shares >= work * share:
            bounds[share] = i + 1
            share += 1
    while share <= shares:
        bounds[share] = len(rows)
        share += 1
    return work
