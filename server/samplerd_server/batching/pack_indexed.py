"""The arrow from requests that draw from a CDF index to a batch; its results are unpacked like those of any batch."""

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
    """Lay out the draws of `requests`, in order; each has a CDF index."""
    return IndexedBatch(draws=tuple(_draw(request) for request in requests))


def _draw(request: SampleRequest) -> IndexedDraw:
    assert request.cdf_index is not None, "a request without a CDF index is drawn from one. This is a bug."
    assert isinstance(request.source, StoredRows), "rows that were not uploaded have a CDF index. This is a bug."
    rows = request.rows
    if request.row_seeds is None:
        seeds = np.full(rows, request.seed, np.uint64)
        indices = np.arange(request.first_row, request.first_row + rows, dtype=np.uint32)
    else:
        seeds, indices = request.row_seeds, np.zeros(rows, np.uint32)
    return IndexedDraw(
        cdf_index=request.cdf_index,
        first=request.source.first,
        seeds=seeds,
        indices=indices,
        draw_offset=request.draw_offset,
        num_samples=request.num_samples,
    )
