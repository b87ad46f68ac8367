"""Drafts verified by the kernels: the target rows are prepared as those of a batch, and one program judges the tokens.

At most five launches: `measure`, of target rows and of the draft's, `adjust` and another `measure`, `select`, `judge`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Dtype, RowErrorReason
from samplerd_server.sampling.cuda.judge import VERDICT, judge
from samplerd_server.sampling.cuda.pick import SPARE
from samplerd_server.sampling.cuda.plan import make_plan
from samplerd_server.sampling.cuda.prepare import prepare
from samplerd_server.sampling.cuda.records import blocks_of, place_blocks, set_temperature
from samplerd_server.sampling.cuda.rows import Field
from samplerd_server.sampling.rows import DraftVerdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.draw_memory import DrawMemory
    from samplerd_server.sampling.cuda.plan import Plan

__all__ = ["Draft", "Judged", "enqueue_draft", "read_verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The drafted tokens of one sequence, as kernels take them."""

    ids: NDArray[np.int32]
    """int32[n]."""
    parents: NDArray[np.int32]
    """int32[n]."""
    address: int = 0
    """Of n rows of weights, one after the other, that the tokens were drawn from; 0 = each was certain."""
    dtype: Dtype = Dtype.F32
    """Of these weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Where the answer lies: not to be read before the kernels have run."""

    path: NDArray[np.int32]
    """int32[n]."""
    verdict: NDArray[np.int64]
    """int64[VERDICT]: see `judge.VERDICT`."""


def _add_records(plan: Plan, width: int, draft: Draft) -> tuple[Plan, int]:
    """Add the records of a draft's rows, and that of what a rejection leaves. Returns the number of the first."""
    n, first = len(draft.ids), len(plan.records)
    count = n if draft.address else 0
    more = np.repeat(plan.records[:1], count + 1, axis=0)
    stride = width * draft.dtype.itemsize
    more[:count, Field.ADDRESS] = draft.address + stride * np.arange(count)
    more[:, Field.DTYPE], more[:, Field.WIDTH], more[:, Field.IS_WEIGHTS] = draft.dtype, width, 1
    more[count, Field.DTYPE] = Dtype.F64
    set_temperature(more, np.ones(count + 1))
    as_sent = np.concatenate([plan.as_sent, first + np.arange(count)])
    return replace(plan, records=np.concatenate([plan.records, more]), as_sent=as_sent), first


def enqueue_draft(rows: NDArray[np.void], draft: Draft, launch: Callable[..., None], memory: DrawMemory) -> Judged:
    """Launch the verification of one draft of n tokens, without waiting for it.

    rows: ROW[n + 1], dense target rows of one width of which `scope.is_drawn` is true. For launch and memory see
    `draw.enqueue`.
    """
    room, place = memory.room, memory.place

    def hold(array: NDArray[Any]) -> int:
        address: int = place(array).data_ptr()
        return address

    n, width = len(draft.ids), int(rows["width"].max())
    plan, first = _add_records(make_plan(rows, hold), width, draft)
    last = len(plan.records) - 1
    residual = room(width, np.float64)
    plan.records[last, Field.ADDRESS] = residual.data_ptr()
    blocks, most = place_blocks(plan.records), int(blocks_of(plan.records).max())
    ready = prepare(plan, len(rows), blocks, launch, memory)
    path, verdict = np.zeros(n, np.int32), np.zeros(VERDICT, np.int64)
    sizes = place(np.array([n, first if draft.address else -1, last], np.int64))
    scratch = (room(most, np.float64), room(most, np.float64), room(SPARE, np.float64))
    launch(
        judge,
        1,
        ready.records,
        sizes,
        place(draft.ids),
        place(draft.parents),
        ready.maxima,
        ready.bits,
        ready.sums,
        *scratch,
        ready.positions,
        residual,
        ready.reasons,
        ready.details,
        memory.share(path),
        memory.share(verdict),
    )
    return Judged(path=path, verdict=verdict)


def read_verdict(draft: Draft, own: Judged) -> DraftVerdict:
    """Make a verdict of what the kernels have written."""
    accepted, failed, reason, detail, last, failed_draft = own.verdict.tolist()
    path = own.path[:accepted]
    return DraftVerdict(
        samples=(*draft.ids[path].tolist(), *(() if failed >= 0 else (last,))),
        path=tuple(path.tolist()),
        failed_row=failed,
        failed_draft=failed_draft,
        reason=RowErrorReason(reason),
        detail=detail,
    )
