"""Batches that make every kernel compile: what warm-up draws before the first request may come."""

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW, RowBatch

__all__ = ["batches"]


def batches() -> list[RowBatch]:
    """Make a plain row of each way to draw it, and one that is not plain: kernels are compiled for types alone."""
    numbers = np.zeros(8, np.float32)
    address = numbers.__array_interface__["data"][0]
    made = []
    for is_plain, counted in ((1, 0), (1, 8), (0, 0)):  # a batch that is known to be small keeps the interpreter lock
        hot = HOT.pack(address, 1, 0, 0, 1.0, 8, 8, 0, 1, 0, 1, 1, 0, is_plain)
        rows = np.frombuffer(bytearray(hot + COLD_DEFAULT), ROW)
        made.append(RowBatch(rows=rows, samples=1, work=counted, keepalive=numbers))
    return made
