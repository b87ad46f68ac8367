"""The launches before anything is drawn: rows are measured, changed, and listed as far as their filters keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling.cuda.adjust import adjust
from samplerd_server.sampling.cuda.measure import measure
from samplerd_server.sampling.cuda.records import share_blocks
from samplerd_server.sampling.cuda.rows import Field
from samplerd_server.sampling.cuda.select import select

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.sampling.cuda.draw_memory import DrawMemory
    from samplerd_server.sampling.cuda.plan import Plan

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The memory of a batch of B rows as these launches leave it, of which the addresses in records are part."""

    records: Any
    """int64[R, PITCH]."""
    maxima: Any
    """float32[blocks]."""
    bits: Any
    """int32[blocks]."""
    sums: Any
    """float64[blocks]."""
    copies: Any
    """float32: of changed rows."""
    numbers: Any
    """float32: of all lists."""
    positions: Any
    """int32: of all lists."""
    masses: Any
    """int64: of all lists."""
    reasons: Any
    """int32[B]."""
    details: Any
    """int64[B]."""


def prepare(plan: Plan, rows: int, blocks: int, launch: Callable[..., None], memory: DrawMemory) -> Prepared:
    """Launch what comes before the draws of a plan of so many rows and blocks, without waiting for it.

    The records of the plan get the addresses of copies and lists. For launch and memory see `draw.enqueue`.
    """
    room, place, records = memory.room, memory.place, plan.records
    of_blocks = room(blocks, np.float32), room(blocks, np.int32), room(blocks, np.float64)
    numbers, positions = room(plan.lists, np.float32), room(plan.lists, np.int32)
    copies, masses = room(plan.copied, np.float32), room(plan.lists, np.int64)
    reasons, details = place(np.zeros(rows, np.int32)), place(np.zeros(rows, np.int64))
    records[plan.copies, Field.ADDRESS] = copies.data_ptr() + 4 * plan.copy_at[plan.copies]
    records[plan.listed, Field.ADDRESS] = numbers.data_ptr() + 4 * records[plan.listed, Field.LIST_AT]
    own = place(records)  # kernels write how wide lists are
    as_sent, changed = share_blocks(records, plan.as_sent), share_blocks(records, plan.changed)
    launch(measure, len(as_sent), own, place(as_sent), *of_blocks)
    if len(plan.changes):
        launch(adjust, len(plan.changes), own, place(plan.changes), *of_blocks[:2], reasons, details)
        launch(measure, len(changed), own, place(changed), *of_blocks)
    if len(plan.selected):
        of_lists = (numbers, positions, masses, room(plan.wide_lists, np.int64), reasons, details)
        launch(select, len(plan.selected), own, place(plan.selected), *of_blocks, *of_lists)
    maxima, bits, sums = of_blocks
    return Prepared(
        records=own,
        maxima=maxima,
        bits=bits,
        sums=sums,
        copies=copies,
        numbers=numbers,
        positions=positions,
        masses=masses,
        reasons=reasons,
        details=details,
    )
