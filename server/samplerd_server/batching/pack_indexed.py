"""The arrow from requests that draw from tables to a batch of such draws; its results are cut apart as any others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.rows import IndexedDraw, StoredRows
from samplerd_server.sampling.cdf_index.batch import IndexedBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.core.request import SampleRequest

__all__ = ["pack_indexed"]


def pack_indexed(requests: Sequence[SampleRequest]) -> IndexedBatch:
    """Lay out the draws of `requests`, in order; each has a table."""
    return IndexedBatch(draws=tuple(_draw(request) for request in requests))


def _draw(request: SampleRequest) -> IndexedDraw:
    assert request.table is not None, "a request without a table is drawn from one. This is a bug."
    assert isinstance(request.source, StoredRows), "rows that do not stay have a table. This is a bug."
    rows = request.rows
    if request.row_seeds is None:
        seeds = np.full(rows, request.seed, np.uint64)
        indices = np.arange(request.first_row, request.first_row + rows, dtype=np.uint32)
    else:
        seeds, indices = request.row_seeds, np.zeros(rows, np.uint32)
    return IndexedDraw(
        table=request.table,
        first=request.source.first,
        seeds=seeds,
        indices=indices,
        draw_offset=request.draw_offset,
        num_samples=request.num_samples,
    )
