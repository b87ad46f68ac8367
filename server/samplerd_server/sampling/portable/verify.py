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
from samplerd_server.sampling.portable.load import load
from samplerd_server.sampling.portable.processed import process
from samplerd_server.sampling.portable.records import upload
from samplerd_server.sampling.portable.row_groups import group_rows
from samplerd_server.sampling.portable.staging import decode_rows
from samplerd_server.sampling.portable.tree import MassTree, sum_blocks
from samplerd_server.sampling.rows import DraftVerdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["verify"]

_Fault = tuple[RowErrorReason, int]
_NO_FAULT: _Fault = (RowErrorReason.NONE, 0)


def verify(
    target: RowBatch,
    draft_ids: NDArray[np.int32],
    parents: NDArray[np.int32],
    draft: DenseRows | None,
    device: torch.device,
) -> DraftVerdict:
    """Accept or correct n drafted tokens.

    Args: target, ROW[n + 1] of one V; draft_ids and parents, int32[n]; draft, n rows of weights or None. Waits for the
    device once for each row group, once for the drafted tokens' probabilities, and once for each token that is tried
    after another one of the same parent.
    """
    width = int(target.rows["vocab_size"][0])
    p, faults = _target(target, width, device)
    q, draft_faults = _draft(draft, draft_ids, width, device)
    odds = _odds(p, q, draft_ids, parents)
    taken = draft_ids.tolist()
    path: list[int] = []
    node = 0  # the index of the target row, one more than that of the drafted token
    law, is_residual, failed_draft = p[:1], False, -1
    for j, parent in enumerate(parents.tolist()):  # a token follows its parent, so that one pass meets all
        if faults[node] != _NO_FAULT:
            break
        if parent != node - 1:
            continue
        if draft_faults[j] != _NO_FAULT:
            faults[node], failed_draft = draft_faults[j], j
            break
        own = float(law[0, taken[j]].item()) if is_residual else odds[j, 0]
        if _uniform(target, j, Purpose.ACCEPT) * odds[j, 1] < own:
            path.append(j)
            node = j + 1
            law, is_residual = p[node : node + 1], False
        else:
            law, is_residual = _reject(law, q[j : j + 1]), True
    samples = tuple(taken[j] for j in path)
    reason, detail = faults[node]
    if reason != RowErrorReason.NONE:
        return DraftVerdict(
            samples=samples,
            path=tuple(path),
            failed_row=node,
            failed_draft=failed_draft,
            reason=reason,
            detail=detail,
        )
    tree = MassTree(law)
    last = int(tree.find(_uniform(target, node, Purpose.CORRECT) * tree.total).item())
    return DraftVerdict(samples=(*samples, last), path=tuple(path))


def _uniform(target: RowBatch, row: int, purpose: Purpose) -> float:
    record = target.rows[0]
    return uniform(int(record["seed"]), int(record["draw_offset"]), row, purpose)


def _odds(p: Tensor, q: Tensor, draft_ids: NDArray[np.int32], parents: NDArray[np.int32]) -> NDArray[np.float64]:
    """Fetch p at its parent and q of each drafted token: float64[n, 2]."""
    tokens = upload(draft_ids.astype(np.int64), p.device)[:, None]
    nodes = upload(parents.astype(np.int64) + 1, p.device)[:, None]
    odds: NDArray[np.float64] = torch.cat([p[nodes, tokens], q.gather(1, tokens)], dim=1).cpu().numpy()
    return odds


def _reject(law: Tensor, q: Tensor) -> Tensor:
    """Compute the law after a token of q was rejected: max(law - q, 0), renormalised; the same if that is all 0."""
    residual = (law - q).clamp_(min=0.0)
    total = sum_blocks(residual)
    return torch.where(total > 0, residual / total, law)


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
        p[upload(group.rows, device), : own.shape[1]] = own
        columns = {"health": rows.health, **rows.emptied, "undecided": processed.undecided, "beyond": processed.beyond}
        columns["positive"] = processed.count
        host = fetch(columns)
        for index, row in enumerate(group.rows.tolist()):
            faults[row] = verdict(group.records[index], index, host)
    return p, faults


def _draft(
    draft: DenseRows | None, draft_ids: NDArray[np.int32], width: int, device: torch.device
) -> tuple[Tensor, list[_Fault]]:
    """Normalise the draft's rows: float64[n, V], and what is wrong with each row."""
    n = len(draft_ids)
    if draft is None:
        certain = np.zeros((n, width))
        certain[np.arange(n), draft_ids] = 1.0
        return upload(certain, device), [_NO_FAULT] * n
    size = width * draft.dtype.itemsize
    data = np.frombuffer(draft.data, np.uint8)
    faults = [first_fault(data[j * size : (j + 1) * size], draft.dtype, InputKind.PROBABILITIES) for j in range(n)]
    weights = decode_rows(upload(_decoded(draft, n, width), device), None, 0.0)
    totals = MassTree(weights).total
    return weights / totals, [
        fault or (_NO_FAULT if total != 0 else (RowErrorReason.NOTHING_TO_DRAW, 0))
        for fault, total in zip(faults, totals[:, 0].tolist(), strict=True)
    ]


def _decoded(draft: DenseRows, n: int, width: int) -> NDArray[np.float32]:
    """Decode the draft on the host, float32[n, V]."""
    return decode(draft.data, draft.dtype).reshape(-1, width)[:n].copy()
