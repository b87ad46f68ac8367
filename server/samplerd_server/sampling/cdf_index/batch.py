"""Draws from uploaded rows by their CDF index, as the device takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.entity import entity
from samplerd_server.sampling.rows import RowResults

if TYPE_CHECKING:
    from samplerd_server.core.rows import IndexedDraw

__all__ = ["IndexedBatch"]


@entity
class IndexedBatch:
    """Draws by CDF index. A row that has one can be drawn from: no row fails."""

    draws: tuple[IndexedDraw, ...]

    @property
    def samples(self) -> int:
        """Number of samples in the batch."""
        return sum(draw.samples for draw in self.draws)

    def __len__(self) -> int:
        """Count the rows of the batch."""
        return sum(len(draw.seeds) for draw in self.draws)

    def run(self) -> RowResults:
        """Draw; the samples of one draw follow those of the one before."""
        rows = len(self)
        results = RowResults(
            samples=np.empty(self.samples, np.int32), status=np.zeros(rows, np.int32), detail=np.zeros(rows, np.int64)
        )
        begin = 0
        for draw in self.draws:
            end = begin + draw.samples
            draw.cdf_index.draw(draw, results.samples[begin:end])
            begin = end
        return results
