"""The CPU's sampler beside a card: rows that lie on the card are copied to the host first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.cuda.parts import part_of, put_results
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.rows import LOST_ROW, new_results

if TYPE_CHECKING:
    from samplerd_server.sampling.cuda.copied_rows import CopiedRows
    from samplerd_server.sampling.resumed import ResumedDraw
    from samplerd_server.sampling.rows import RowBatch, RowResults

__all__ = ["CpuSampler"]


class CpuSampler(NumbaSampler):
    """See `sampling.sampler.Sampler`. Rows of drafts are never on the card before they are staged."""

    def __init__(self, threads: int, copied: CopiedRows) -> None:
        """Prepare it; copied: the rows that lie on the card."""
        super().__init__(threads)
        self._copied = copied

    def sample(self, batch: RowBatch) -> RowResults:
        """Draw from every row; one that is lost with the card has the status `LOST_ROW`."""
        batch, lost = self._copied.bring(batch)
        if not lost.any():
            return super().sample(batch)
        results, places = new_results(batch), np.flatnonzero(~lost)
        results.status[lost] = LOST_ROW
        if len(places):
            put_results(results, batch, super().sample(part_of(batch, places)), places)
        return results

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Make some of the draws of one row without replacement."""
        draw.batch, lost = self._copied.bring(draw.batch)
        if not lost.any():
            return super().resume(draw)
        results = new_results(draw.batch)
        results.status[:] = LOST_ROW
        return results
