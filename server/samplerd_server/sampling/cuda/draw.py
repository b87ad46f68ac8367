"""Rows that the kernels draw from: the launches of a batch, whatever mix of parameters its rows have.

Plain rows are two launches, `measure` and `pick`, and rows without replacement too, with `draw_left`. Masks, biases and
penalties add `adjust` and a `measure` of what was changed; filters add `select`; entropies add `moments`, and any of
this or other outputs `describe`: eight at most, each only if any row needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from samplerd_server.core.enums import LogprobKind
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.cuda.describe import SPARE as DESCRIBE_SPARE
from samplerd_server.sampling.cuda.describe import describe
from samplerd_server.sampling.cuda.draw_memory import TensorMemory
from samplerd_server.sampling.cuda.kinds import Output
from samplerd_server.sampling.cuda.moments import moments
from samplerd_server.sampling.cuda.pick import SPARE, pick
from samplerd_server.sampling.cuda.plan import make_plan
from samplerd_server.sampling.cuda.prepare import prepare
from samplerd_server.sampling.cuda.records import blocks_of, place_blocks, place_trees, share_blocks, share_draws
from samplerd_server.sampling.cuda.rows import Field
from samplerd_server.sampling.cuda.without import draw_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from samplerd_server.sampling.cuda.draw_memory import DrawMemory
    from samplerd_server.sampling.rows import RowResults

__all__ = ["Drawn", "Scratch", "draw", "enqueue"]

_KINDS = (Field.RAW, Field.SCALED, Field.FINAL)
_ENDS_OF_PICK = 6
"""The place of the cumulative sums among the arguments of `pick`."""
_ENTROPIES = [int(OutputFlags.ENTROPY_RAW) << kind for kind in range(3)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What the launches leave behind beside the answers: tests compare it, bit by bit."""

    first_block: NDArray[np.int64]
    """int64[B]: where the blocks of each row, as it was sent, begin."""
    maxima: Tensor
    """float32[blocks]."""
    sums: Tensor
    """float64[blocks]."""
    ends: Tensor
    """float64: cumulative sums of the blocks of each program of `pick`."""
    ends_at: NDArray[np.int64]
    """int64[B]: where those of a row's first program begin."""
    kept: NDArray[np.int64]
    """int64[B]: how many numbers each row was drawn from."""
    inverse: NDArray[np.float64]
    """float64[B]: of what each row was drawn from; -1 at T = 0. See `kernels.measure.inverse`."""
    lists: list[NDArray[np.int32]]
    """Of each row that has filters the positions of what is kept; of others none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """The memory of a batch that was launched, as `memory` made it: not to be read before its kernels have run."""

    records: Any
    """int64[R, PITCH]."""
    picks: NDArray[np.int64]
    """int64[P, 4]: see `records.share_draws`."""
    maxima: Any
    """float32[blocks]."""
    sums: Any
    """float64[blocks]."""
    positions: Any
    """int32: of all lists."""


def draw(rows: NDArray[np.void], results: RowResults, launch: Callable[..., None], *, is_locked: bool = False) -> Drawn:
    """Draw from rows, ROW[B], of which `scope.is_drawn` is true, and write what they ask for into `results` of B rows.

    launch takes a kernel, the number of its programs, and its arguments, and returns when they have run. is_locked:
    whether all memory beside the rows and the results is page-locked, which a GPU can address.
    """
    memory, cumulated = TensorMemory(is_locked=is_locked), []

    def watch(kernel: Any, programs: int, *arguments: Any) -> None:
        launch(kernel, programs, *arguments)
        if kernel is pick:  # `describe` uses the cumulative sums' memory again
            cumulated.append(arguments[_ENDS_OF_PICK].clone())

    left = enqueue(rows, results, watch, memory)
    ends = cumulated[0] if cumulated else torch.empty(0, dtype=torch.float64)
    return _left_behind(left.records.numpy(), left.picks, left.maxima, left.sums, ends, left.positions.numpy())


def enqueue(rows: NDArray[np.void], results: RowResults, launch: Callable[..., None], memory: DrawMemory) -> Scratch:
    """Launch all that `draw` does, without waiting for any of it: nothing here reads what a kernel writes.

    Args:
        rows: ROW[B], whose addresses the device can read.
        results: of B rows, in memory that the device can write, filled with what a failed row answers.
        launch: takes a kernel, the number of its programs, and its arguments, which `memory` has made.
        memory: where all else lies; it must last until the kernels have run.

    """
    room, place = memory.room, memory.place

    def hold(array: NDArray[Any]) -> int:
        address: int = place(array).data_ptr()
        return address

    plan = make_plan(rows, hold)
    count, total, records = len(rows), place_blocks(plan.records), plan.records
    final = records[:count, Field.FINAL]
    flags, blocks = rows["output_flags"].astype(np.int64), blocks_of(records)
    kinds = np.stack([records[:count, kind] for kind in _KINDS], axis=1)
    most = np.where(kinds >= 0, blocks[np.maximum(kinds, 0)], 0).max(axis=1)
    without = rows["without"] != 0
    picks, shares = share_draws(rows["num_samples"].astype(np.int64), final, most, without)
    tree_size = place_trees(records, final[without], most[without])
    scales, ends = room(shares, np.float64), room(shares, np.float64)
    answers = [memory.share(part) for part in (results.samples, results.status, results.detail)]
    ready = prepare(plan, count, total, launch, memory)
    own, maxima, bits, sums = ready.records, ready.maxima, ready.bits, ready.sums
    asked = [kinds[(flags & own_flag) != 0, kind] for kind, own_flag in enumerate(_ENTROPIES)]
    # Shares of lists are those of full ones: nobody waits here until it is known how long they are.
    described = share_blocks(records, np.unique(np.concatenate(asked)))
    trees = room(tree_size, np.int64)
    is_left = np.isin(picks[:, 0], final[without])
    for kernel, some, scratch in (
        (pick, picks[~is_left], (scales, ends, room(len(picks) * SPARE, np.float64))),
        (draw_left, picks[is_left], (trees,)),
    ):
        if len(some):
            launch(kernel, len(some), own, place(some), maxima, bits, sums, *scratch, *answers)
    terms = room(total, np.float64)
    if len(described):
        launch(moments, len(described), own, place(described), maxima, terms)
    if len(plan.selected) or len(plan.changes) or flags.any() or rows["candidate_ids"].any():
        left, more = room(shares, np.float32), room(len(picks) * DESCRIBE_SPARE, np.float64)
        blocks_of_all = (maxima, sums, terms, scales, ends, left, more, trees, ready.masses)
        of_rows = (ready.positions, ready.reasons, ready.details)
        launch(describe, len(picks), own, place(picks), *blocks_of_all, *of_rows, *answers, place(_addresses(results)))
    return Scratch(records=own, picks=picks, maxima=maxima, sums=sums, positions=ready.positions)


def _left_behind(  # noqa: PLR0917
    records: NDArray[np.int64],
    picks: NDArray[np.int64],
    maxima: Tensor,
    sums: Tensor,
    ends: Tensor,
    positions: NDArray[np.int32],
) -> Drawn:
    first = np.flatnonzero(picks[:, 1] == 0)
    own = records[: len(first)]
    widths, begin = records[own[:, Field.FINAL], Field.WIDTH], own[:, Field.LIST_AT]
    return Drawn(
        first_block=own[:, Field.FIRST_BLOCK],
        maxima=maxima,
        sums=sums,
        ends=ends,
        ends_at=picks[first, 3],
        kept=widths,
        inverse=records[own[:, Field.FINAL], Field.INVERSE].view(np.float64),
        lists=[
            positions[at : at + n] if at >= 0 else np.empty(0, np.int32) for at, n in zip(begin, widths, strict=True)
        ],
    )


def _addresses(results: RowResults) -> NDArray[np.int64]:
    """List where the outputs lie; 0 = no row asks for it."""
    places = np.zeros(max(Output) + 1, np.int64)
    by_kind = (
        (Output.LOGPROBS, results.logprobs),
        (Output.TOP_IDS, results.top_ids),
        (Output.TOP_LOGPROBS, results.top_logprobs),
        (Output.NAMED, results.named),
        (Output.ENTROPY, results.entropy),
    )
    for place, some in by_kind:
        for kind in LogprobKind:
            if kind in some:
                places[place + kind - 1] = some[kind].ctypes.data
    for own, values in (
        (Output.RANKS, results.ranks),
        (Output.KEPT_COUNT, results.kept_count),
        (Output.KEPT_MASS, results.kept_mass),
        (Output.UNSHAPED, results.unshaped),
    ):
        places[own] = 0 if values is None else values.ctypes.data
    return places
