"""Draws without replacement from one row in slices, between which the thread may serve others.

Rule 1: what is needed from slice to slice lies in memory that the draw owns; the thread's workspace is used by `begin`
and `finish` alone. Rule 2: how the draw is cut changes nothing, not a bit: the slices make the draws of
`without.draw_without`, one after the other, from the same tree.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.sampling.kernels.answer import draw_full
from samplerd_server.sampling.kernels.blocks import BLOCK, TINY
from samplerd_server.sampling.kernels.compile import kernel
from samplerd_server.sampling.kernels.held import DESCRIBE, HELD, PREPARE
from samplerd_server.sampling.kernels.mass_tree import cut_tree, tree_bytes
from samplerd_server.sampling.kernels.measure import find_bad, inverse, is_bad, measure_block
from samplerd_server.sampling.kernels.memory import Noise, View, cut_scratch
from samplerd_server.sampling.kernels.philox import DRAW
from samplerd_server.sampling.kernels.without import draw_left, sow
from samplerd_server.sampling.kernels.workspace import aligned
from samplerd_server.sampling.rows import new_results

if TYPE_CHECKING:
    from samplerd_server.sampling.kernels.answer import Outputs
    from samplerd_server.sampling.kernels.workspace import Workspace
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["LongDraw"]

_NOTHING, _TOO_FEW = int(RowErrorReason.NOTHING_TO_DRAW), int(RowErrorReason.TOO_FEW_TO_DRAW)


@kernel
def draw_slice(rows, samples, status, detail, held_by, memory, space, draws):
    """Go on with the draw of rows: ROW[1], for so many draws; measure the row if that is 0.

    samples, status, detail: as in RowResults; samples are filled with positions. held_by: HELD[1]; memory: address of
    the row's tree; space: see workspace.py, used only to measure. Returns whether draws are left to make.
    """
    row, held = rows[0], held_by[0]
    view = View(np.uint64(held.address), held.dtype, held.width, held.is_weights != 0)
    tree = cut_tree(memory, (view.width + BLOCK - 1) // BLOCK)
    if draws == 0:
        scratch, c, nothing = cut_scratch(space), inverse(view, held.temperature), True
        for b in range(tree.blocks):
            tree.maxima[b], bits, tree.sums[b] = measure_block(view, b, c, False, scratch)  # noqa: FBT003
            if is_bad(tree.maxima[b], bits, view.is_weights):
                status[0], detail[0] = find_bad(scratch.x, b * BLOCK, view.is_weights)
                return False
            nothing &= not tree.maxima[b] > (np.float32(0) if view.is_weights else TINY)
        if nothing:
            status[0], detail[0] = _NOTHING, 0
            return False
        held.total, held.exponent, held.sum = sow(tree, view, held.temperature)
        return True
    end = min(np.int64(row.num_samples), held.drawn + draws)
    noise = Noise(row.seed, row.draw_offset, row.row_index, np.int64(DRAW))
    status[0], held.drawn, held.total = draw_left(
        tree, view, held.temperature, held.total, held.rest, noise, held.drawn, end, samples
    )
    if status[0] == _TOO_FEW:
        detail[0] = held.drawn
    return status[0] == 0 and end < row.num_samples


class LongDraw:
    """The draws without replacement of one row. One thread at a time."""

    __slots__ = ("_held", "_memory", "_numbers", "_rows", "batch", "results")

    def __init__(self, batch: RowBatch) -> None:
        """Take a batch of one row, whose samples begin at 0."""
        self.batch = batch
        self.results = new_results(batch)
        """The answer, once `finish` has been called."""
        self._rows = batch.rows.copy()  # aligned and not read-only: numba would compile for any other
        width = int(self._rows["width"][0])
        self._numbers = np.empty(width, np.float32)
        self._memory = np.empty(tree_bytes(-(-width // BLOCK)) + 64, np.uint8)
        self._held = np.zeros(1, HELD)
        self._held["numbers"] = self._numbers.__array_interface__["data"][0]

    def begin(self, space: Workspace, out: Outputs) -> bool:
        """Take the row through steps 0 to 7 and measure it. Returns whether draws are left to make: else it failed."""
        self._full(space, out, PREPARE)
        return not self.results.status[0] and self._draw(space, 0)

    def advance(self, space: Workspace, draws: int) -> bool:
        """Make at least one and at most so many draws. Returns whether any are left to make."""
        return self._draw(space, max(1, draws))

    def finish(self, space: Workspace, out: Outputs) -> None:
        """Write the outputs, and ids for positions; of a row that failed, what a failed row answers."""
        if self.results.status[0]:
            self.results.samples.fill(-1)
        else:
            self._full(space, out, DESCRIBE)

    def _draw(self, space: Workspace, draws: int) -> bool:
        results = self.results
        more: bool = draw_slice(
            self._rows,
            results.samples,
            results.status,
            results.detail,
            self._held,
            aligned(self._memory),
            space.space,
            draws,
        )
        return more

    def _full(self, space: Workspace, out: Outputs, stage: int) -> None:
        width = int(max(self._rows["width"][0], self._rows["vocab_size"][0]))
        if width > space.width:
            space.grow(width)
        results = self.results
        results.status[0] = -1
        draw_full(
            self._rows,
            0,
            1,
            results.samples,
            results.status,
            results.detail,
            out,
            space.full(),
            space.space,
            stage,
            self._held,
        )
