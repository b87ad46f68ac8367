"""Speculative verification of one sequence with torch operators. Law and noise: `reference/verify.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplerd_server.core.enums import InputKind, RowErrorReason
from samplerd_server.sampling.decode import decode, first_fault
from samplerd_server.sampling.noise import Purpose, uniform
from samplerd_server.sampling.portable.answers import fetch, verdict
from samplerd_server.sampling.portable.logits import load
from samplerd_server.sampling.portable.processed import process
from samplerd_server.sampling.portable.row_groups import group_rows
from samplerd_server.sampling.portable.staging import decode_rows
from samplerd_server.sampling.portable.tree import MassTree
from samplerd_server.sampling.rows import DraftVerdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["verify"]

_Fault = tuple[RowErrorReason, int]
_NO_FAULT: _Fault = (RowErrorReason.NONE, 0)


def verify(
    target: RowBatch, draft_ids: NDArray[np.int32], draft: DenseRows | None, device: torch.device
) -> DraftVerdict:
    """Accept or correct n drafted tokens.

    Args: target, ROW[n + 1] of one V; draft_ids, int32[n]; draft, n rows of weights or None. Waits for the device once
    for each row group and once for the drafted tokens' probabilities.
    """
    n, width = len(draft_ids), int(target.rows["vocab_size"][0])
    p, faults = _target(target, width, device)
    q = _draft(draft, draft_ids, width, faults, device)
    tokens = torch.from_numpy(draft_ids.astype(np.int64)).to(device)[:, None]
    odds = torch.cat([p[:n].gather(1, tokens), q.gather(1, tokens)], dim=1).cpu().numpy()
    taken = draft_ids.tolist()
    for position in range(n + 1):
        reason, detail = faults[position]
        if reason != RowErrorReason.NONE:
            return DraftVerdict(
                samples=tuple(taken[:position]), accepted=position, failed_row=position, reason=reason, detail=detail
            )
        if position < n and _uniform(target, position, Purpose.ACCEPT) * odds[position, 1] < odds[position, 0]:
            continue
        masses = p[position : position + 1]
        if position < n:
            residual = (masses - q[position : position + 1]).clamp_(min=0.0)
            masses = torch.where(residual.amax(1, keepdim=True) > 0, residual, masses)
        tree = MassTree(masses)
        last = int(tree.find(_uniform(target, position, Purpose.CORRECT) * tree.total).item())
        return DraftVerdict(samples=(*taken[:position], last), accepted=position)
    raise AssertionError("verification always ends at a row. This is a bug.")


def _uniform(target: RowBatch, position: int, purpose: Purpose) -> float:
    record = target.rows[position]
    return uniform(int(record["seed"]), int(record["draw_offset"]), position, purpose)


def _target(target: RowBatch, width: int, device: torch.device) -> tuple[Tensor, list[_Fault]]:
    """Process the target's rows: probabilities float64[n + 1, V], and what is wrong with each row."""
    p = torch.zeros((len(target), width), dtype=torch.float64, device=device)
    faults = [_NO_FAULT] * len(target)
    for group in group_rows(target.rows, 1 << 62):
        rows = load(group, device)
        processed = process(rows, is_full=True)
        drawn_from = processed.drawn_from
        masses = drawn_from.masses / drawn_from.total
        places = drawn_from.ids(torch.arange(masses.shape[1], device=device).expand_as(masses))
        own = torch.zeros_like(rows.adjusted).scatter_(1, places, masses)
        p[torch.from_numpy(group.rows).to(device), : own.shape[1]] = own
        columns = {"health": rows.health, **rows.emptied, "undecided": processed.undecided, "beyond": processed.beyond}
        columns["positive"] = processed.count
        host = fetch(columns)
        for index, row in enumerate(group.rows.tolist()):
            faults[row] = verdict(group.records[index], index, host)
    return p, faults


def _draft(
    draft: DenseRows | None, draft_ids: NDArray[np.int32], width: int, faults: list[_Fault], device: torch.device
) -> Tensor:
    """Normalise the draft's rows, float64[n, V]; what is wrong with one is noted in `faults` behind the target's."""
    n = len(draft_ids)
    if draft is None:
        certain = np.zeros((n, width))
        certain[np.arange(n), draft_ids] = 1.0
        return torch.from_numpy(certain).to(device)
    size = width * draft.dtype.itemsize
    for position in range(n):
        data = np.frombuffer(draft.data, np.uint8)[position * size : (position + 1) * size]
        fault = first_fault(data, draft.dtype, InputKind.PROBABILITIES)
        if faults[position] == _NO_FAULT and fault is not None:
            faults[position] = fault
    weights = decode_rows(_as_tensor(draft, n, width).to(device), None, 0.0)
    totals = MassTree(weights).total
    for position, total in enumerate(totals[:, 0].tolist()):
        if total == 0 and faults[position] == _NO_FAULT:
            faults[position] = (RowErrorReason.NOTHING_TO_DRAW, 0)
    return weights / totals


def _as_tensor(draft: DenseRows, n: int, width: int) -> Tensor:
    """Decode the draft on the host, float32[n, V]."""
    return torch.from_numpy(decode(draft.data, draft.dtype).reshape(-1, width)[:n].copy())
