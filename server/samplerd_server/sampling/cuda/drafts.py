"""Drafts verified by the kernels: target rows are prepared as those of a batch, and a program judges each draft.

At most five launches, of however many drafts: `measure`, of target rows and of the drafts', `adjust` and another
`measure`, `select`, `judge`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Dtype, RowErrorReason
from samplerd_server.sampling.cuda.judge import TASK, VERDICT, judge
from samplerd_server.sampling.cuda.pick import SPARE
from samplerd_server.sampling.cuda.plan import make_plan
from samplerd_server.sampling.cuda.prepare import prepare
from samplerd_server.sampling.cuda.records import blocks_of, place_blocks, set_temperature
from samplerd_server.sampling.cuda.rows import Field
from samplerd_server.sampling.rows import DraftVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.draw_memory import DrawMemory
    from samplerd_server.sampling.cuda.plan import Plan

__all__ = ["Draft", "Judged", "enqueue_drafts", "new_judged", "read_verdicts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The drafted tokens of one sequence, as kernels take them."""

    ids: NDArray[np.int32]
    """int32[n]."""
    parents: NDArray[np.int32]
    """int32[n]."""
    width: int
    """Numbers of each row, of the target and of the draft."""
    address: int = 0
    """Of n rows of weights, one after the other, that the tokens were drawn from; 0 = each was certain."""
    dtype: Dtype = Dtype.F32
    """Of these weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Where the answers to some drafts lie: not to be read before the kernels have run."""

    path: NDArray[np.int32]
    """int32, of as many as the drafts have tokens together."""
    verdicts: NDArray[np.int64]
    """int64[P, VERDICT]: see `judge.VERDICT`."""


def new_judged(drafts: Sequence[Draft]) -> Judged:
    """Allocate the answers to drafts."""
    tokens = sum(len(draft.ids) for draft in drafts)
    return Judged(path=np.zeros(tokens, np.int32), verdicts=np.zeros((len(drafts), VERDICT), np.int64))


def _add_records(plan: Plan, drafts: Sequence[Draft]) -> tuple[Plan, NDArray[np.int64]]:
    """Add the records of the drafts' rows, and of what a rejection of each leaves. Returns the tasks of the drafts.

    Of the tasks, int64[P, TASK], where the scratch of blocks begins is not written yet.
    """
    tasks, more, as_sent = np.zeros((len(drafts), TASK), np.int64), [], [plan.as_sent]
    target, end, token, residual = 0, len(plan.records), 0, 0
    for at, draft in enumerate(drafts):
        n = len(draft.ids)
        count = n if draft.address else 0
        own = np.repeat(plan.records[:1], count + 1, axis=0)
        own[:count, Field.ADDRESS] = draft.address + draft.width * draft.dtype.itemsize * np.arange(count)
        own[:count, Field.DTYPE], own[count, Field.DTYPE] = draft.dtype, Dtype.F64
        own[:, Field.WIDTH], own[:, Field.IS_WEIGHTS] = draft.width, 1
        own[count, Field.ADDRESS] = 8 * residual  # from the first of all residuals, until it is known where that is
        set_temperature(own, np.ones(count + 1))
        tasks[at, :-1] = n, target, end if count else -1, end + count, token, residual
        as_sent.append(end + np.arange(count))
        more.append(own)
        target, end, token, residual = target + n + 1, end + count + 1, token + n, residual + draft.width
    return replace(plan, records=np.concatenate([plan.records, *more]), as_sent=np.concatenate(as_sent)), tasks


def enqueue_drafts(
    rows: NDArray[np.void], drafts: Sequence[Draft], judged: Judged, launch: Callable[..., None], memory: DrawMemory
) -> None:
    """Launch the verification of drafts, without waiting for it.

    Args:
        rows: the n + 1 target rows of each draft of n tokens, one draft after the other, dense and of one width in
            each: ROW, of which `scope.is_drawn` is true.
        drafts: at least one.
        judged: in memory that the device can write.
        launch: see `draw.enqueue`, as for memory.
        memory: where all else lies.

    """
    room, place = memory.room, memory.place

    def hold(array: NDArray[Any]) -> int:
        address: int = place(array).data_ptr()
        return address

    plan, tasks = _add_records(make_plan(rows, hold), drafts)
    residual = room(sum(draft.width for draft in drafts), np.float64)
    plan.records[tasks[:, 3], Field.ADDRESS] += residual.data_ptr()
    blocks, most = place_blocks(plan.records), int(blocks_of(plan.records).max())
    tasks[:, -1] = most * np.arange(len(drafts))
    ready = prepare(plan, len(rows), blocks, launch, memory)
    scratch = (room(most * len(drafts), np.float64), room(most * len(drafts), np.float64))
    launch(
        judge,
        len(drafts),
        ready.records,
        place(tasks.reshape(-1)),
        place(np.concatenate([draft.ids for draft in drafts])),
        place(np.concatenate([draft.parents for draft in drafts])),
        ready.maxima,
        ready.bits,
        ready.sums,
        *scratch,
        room(SPARE * len(drafts), np.float64),
        ready.positions,
        residual,
        ready.reasons,
        ready.details,
        memory.share(judged.path),
        memory.share(judged.verdicts.reshape(-1)),
    )


def read_verdicts(drafts: Sequence[Draft], judged: Judged) -> list[DraftVerdict]:
    """Make verdicts of what the kernels have written."""
    verdicts, begin = [], 0
    for draft, own in zip(drafts, judged.verdicts.tolist(), strict=True):
        accepted, failed, reason, detail, last, failed_draft = own
        path = judged.path[begin : begin + accepted]
        begin += len(draft.ids)
        verdicts.append(
            DraftVerdict(
                samples=(*draft.ids[path].tolist(), *(() if failed >= 0 else (last,))),
                path=tuple(path.tolist()),
                failed_row=failed,
                failed_draft=failed_draft,
                reason=RowErrorReason(reason),
                detail=detail,
            )
        )
    return verdicts
