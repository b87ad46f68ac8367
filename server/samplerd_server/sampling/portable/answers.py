"""Copying the columns of a group back to the host, and writing each row's status and outputs into the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.enums import Dtype, InputKind, RowErrorReason, Step
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.decode import first_fault, read_bytes
from samplerd_server.sampling.portable.distribution import SHALLOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.sampling.portable.pipeline import Columns
    from samplerd_server.sampling.portable.row_groups import RowGroup
    from samplerd_server.sampling.rows import RowResults

__all__ = ["HostColumns", "fetch", "needs_depth", "needs_full_list", "verdict", "write"]

HostColumns = dict[str, "NDArray[np.float64]"]
"""`Columns` on the host."""


def fetch(columns: Columns) -> HostColumns:
    """Copy all columns to the host at once; the one place that waits for the device."""
    widths = [column.shape[1] for column in columns.values()]
    packed = torch.cat([column.to(torch.float64) for column in columns.values()], dim=1).cpu().numpy()
    parts = np.split(packed, np.cumsum(widths)[:-1], axis=1)
    return dict(zip(columns, parts, strict=True))


def needs_full_list(group: RowGroup, columns: HostColumns) -> list[int]:
    """Find the rows of which the filters keep more than the head of the order that was listed."""
    if group.is_sparse or not columns["undecided"].any():
        return []
    return [int(row) for row in np.flatnonzero(columns["undecided"][:, 0] * np.isfinite(columns["health"][:, 0]))]


def needs_depth(group: RowGroup, columns: HostColumns) -> list[int]:
    """Find the rows whose masses ran out of range before their last draw without replacement."""
    if "left" not in columns:
        return []
    own = np.arange(columns["left"].shape[1]) < group.records["num_samples"][:, None]
    is_good = np.isfinite(columns["health"][:, 0]) & (columns["positive"][:, 0] >= group.records["num_samples"])
    is_good &= (columns["undecided"][:, 0] == 0) & (columns["beyond"][:, 0] == 0)
    return [int(row) for row in np.flatnonzero(((columns["left"] < SHALLOW) & own).any(axis=1) & is_good)]


def write(group: RowGroup, columns: HostColumns, results: RowResults) -> None:
    """Write the outcome of every row of the group into the batch's results."""
    for index, row in enumerate(group.rows.tolist()):
        record = group.records[index]
        reason, detail = verdict(record, index, columns)
        results.status[row], results.detail[row] = reason, detail
        if reason != RowErrorReason.NONE:
            continue
        begin, draws = int(record["sample_at"]), int(record["num_samples"])
        own = slice(begin, begin + draws)
        results.samples[own] = columns["ids"][index, :draws]
        if record["output_flags"]:
            with np.errstate(over="ignore"):  # a log-probability that float32 cannot hold is -inf
                _write_outputs(row, own, record, {name: column[index] for name, column in columns.items()}, results)


def _write_outputs(
    row: int, own: slice, record: np.void, columns: dict[str, NDArray[np.float64]], results: RowResults
) -> None:
    """Write what a row wants beside its samples."""
    flags, draws = OutputFlags(int(record["output_flags"])), own.stop - own.start
    top = slice(int(record["top_at"]), int(record["top_at"]) + int(record["top_n"]))
    named = slice(int(record["named_at"]), int(record["named_at"]) + int(record["named_len"]))
    for kind, logprobs in results.logprobs.items():
        if not flags & OutputFlags(1 << (kind - 1)):
            continue
        name = kind.name.lower()
        logprobs[own] = columns[f"logprobs_{name}"][:draws]
        if record["top_n"]:
            results.top_ids[kind][top] = columns[f"top_ids_{name}"][: record["top_n"]]
            results.top_logprobs[kind][top] = columns[f"top_logprobs_{name}"][: record["top_n"]]
        if record["named_len"]:
            results.named[kind][named] = columns[f"named_{name}"][: record["named_len"]]
    for kind, entropies in results.entropy.items():
        if flags & OutputFlags(OutputFlags.ENTROPY_RAW << (kind - 1)):
            entropies[row] = columns[f"entropy_{kind.name.lower()}"][0]
    if results.ranks is not None and flags & OutputFlags.RANK:
        results.ranks[own] = columns["ranks"][:draws]
    if results.unshaped is not None and flags & OutputFlags.ADAPTIVE and record["adaptive_target"] > 0:
        results.unshaped[own] = columns["unshaped"][:draws]
    if results.kept_count is not None and results.kept_mass is not None and flags & OutputFlags.KEPT:
        results.kept_count[row] = columns["kept_count"][0]
        results.kept_mass[row] = columns["kept_mass"][0]


def verdict(record: np.void, index: int, columns: HostColumns) -> tuple[RowErrorReason, int]:
    """Say why the row failed, and the detail; NONE when it did not."""
    health = columns["health"][index, 0]
    if np.isnan(health) or health == np.inf:
        fault = _fault_of(record, "data", "dtype")
        if fault is not None:
            return fault
        fault = _fault_of(record, "guidance", "guidance_dtype") if record["guidance"] else None
        assert fault is not None, "a row was found faulty and then faultless. This is a bug."
        return fault[0], -1 - fault[1]
    draws, is_dense = int(record["num_samples"]), record["candidate_ids"] == 0
    has_rest = not is_dense and record["rest_logsumexp"] != -np.inf
    emptied_by = _emptied_by(index, columns)
    if emptied_by is not None and not (has_rest and columns["beyond"][index, 0] + columns["undecided"][index, 0]):
        return RowErrorReason.NOTHING_TO_DRAW, emptied_by
    if columns["undecided"][index, 0] or ("outside" in columns and columns["outside"][index, :draws].any()):
        return RowErrorReason.OUTSIDE_CANDIDATES, 0
    is_short = record["without"] and columns["positive"][index, 0] < draws
    if is_short and columns["beyond"][index, 0]:
        return RowErrorReason.OUTSIDE_CANDIDATES, 0
    if is_short:
        return RowErrorReason.TOO_FEW_TO_DRAW, int(columns["positive"][index, 0])
    return RowErrorReason.NONE, 0


def _fault_of(record: np.void, address: str, dtype: str) -> tuple[RowErrorReason, int] | None:
    """Find the first number of a row, or of its guidance row, that no row may hold."""
    stored = Dtype(int(record[dtype]))
    numbers = read_bytes(int(record[address]), int(record["width"]) * stored.itemsize)
    return first_fault(numbers, stored, InputKind(int(record["kind"])))


def _emptied_by(index: int, columns: HostColumns) -> Step | None:
    """Find the first step that left nothing to draw."""
    if columns["health"][index, 0] == -np.inf:
        return Step.INPUT
    for step in (Step.GUIDANCE, Step.MASK, Step.BIAS, Step.PENALTIES):
        if f"after_{int(step)}" in columns and columns[f"after_{int(step)}"][index, 0] == -np.inf:
            return step
    return None
