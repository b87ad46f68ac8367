"""The columns of a chunk, back on the host: one copy, then each row's status and outputs into the batch's results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.request import Dtype, InputKind, RowErrorReason
from samplerd_server.sampling.decode import first_fault, read_bytes
from samplerd_server.sampling.portable.distribution import SHALLOW
from samplerd_server.sampling.rows import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.sampling.portable.chunks import Chunk
    from samplerd_server.sampling.portable.pipeline import Columns
    from samplerd_server.sampling.rows import RowResults

__all__ = ["HostColumns", "fetch", "needs_depth", "write"]

HostColumns = dict[str, "NDArray[np.float64]"]
"""`Columns` on the host."""


def fetch(columns: Columns) -> HostColumns:
    """Copy all columns to the host at once; the one place that waits for the device."""
    widths = [column.shape[1] for column in columns.values()]
    packed = torch.cat([column.to(torch.float64) for column in columns.values()], dim=1).cpu().numpy()
    parts = np.split(packed, np.cumsum(widths)[:-1], axis=1)
    return dict(zip(columns, parts, strict=True))


def needs_depth(chunk: Chunk, columns: HostColumns) -> list[int]:
    """Rows of the chunk whose masses ran out of range before their last draw without replacement."""
    if "left" not in columns:
        return []
    own = np.arange(columns["left"].shape[1]) < chunk.records["num_samples"][:, None]
    is_good = np.isfinite(columns["health"][:, 0]) & (columns["positive"][:, 0] >= chunk.records["num_samples"])
    return np.flatnonzero(((columns["left"] < SHALLOW) & own).any(axis=1) & is_good).tolist()


def write(chunk: Chunk, columns: HostColumns, results: RowResults) -> None:
    """Write the outcome of every row of the chunk into the batch's results."""
    for index, row in enumerate(chunk.rows.tolist()):
        record = chunk.records[index]
        reason, detail = _verdict(record, index, columns)
        if reason != RowErrorReason.NONE:
            results.status[row], results.detail[row] = reason, detail
            continue
        begin, draws = int(record["sample_at"]), int(record["num_samples"])
        own = slice(begin, begin + draws)
        results.samples[own] = columns["ids"][index, :draws]
        for kind, logprobs in results.logprobs.items():
            name = f"logprobs_{kind.name.lower()}"
            if name in columns and int(record["wanted"]) >> (kind - 1) & 1:
                logprobs[own] = columns[name][index, :draws]


def _verdict(record: np.void, index: int, columns: HostColumns) -> tuple[RowErrorReason, int]:
    """Why the row failed, and the detail; NONE when it did not."""
    health = columns["health"][index, 0]
    if np.isnan(health) or health == np.inf:
        dtype = Dtype(int(record["dtype"]))
        numbers = read_bytes(int(record["data"]), int(record["width"]) * dtype.itemsize)
        fault = first_fault(numbers, dtype, InputKind(int(record["kind"])))
        assert fault is not None, "a row was found faulty and then faultless. This is a bug."
        return fault
    if health == -np.inf:
        return RowErrorReason.NOTHING_TO_DRAW, Step.INPUT
    if record["without"] and columns["positive"][index, 0] < record["num_samples"]:
        return RowErrorReason.TOO_FEW_TO_DRAW, int(columns["positive"][index, 0])
    return RowErrorReason.NONE, 0
