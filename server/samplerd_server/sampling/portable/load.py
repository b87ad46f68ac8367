"""Brings the rows of a group to the device: numbers, records, and what the host computes of each."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.enums import InputKind
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.masses import shift_of
from samplerd_server.sampling.noise import Purpose
from samplerd_server.sampling.parameters import FILTERS
from samplerd_server.sampling.portable.adjust import Adjuster, read_ids
from samplerd_server.sampling.portable.guidance import guide
from samplerd_server.sampling.portable.logits import LoadedRows
from samplerd_server.sampling.portable.records import DeviceRecords, Fields, upload
from samplerd_server.sampling.portable.row_groups import draw_uniforms
from samplerd_server.sampling.portable.staging import decode_rows, stage
from samplerd_server.sampling.shapes import is_shaped, moving_target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from samplerd_server.sampling.portable.row_groups import RowGroup

__all__ = ["load"]

_NEVER = float("-inf")
_MOVING = ["adaptive_target", "adaptive_weighted_sum", "adaptive_total_weight"]


def load(group: RowGroup, device: torch.device, uniforms: NDArray[np.float64] | None = None) -> LoadedRows:
    """Stage and decode the rows of a group; uniforms, float64[B, S], of the draws cross with the records.

    Health is the largest logit; -inf: nothing to draw; NaN or +inf: a fault, which the host looks up.
    """
    widths = group.records["width"]
    ids, sorted_logits = _sorted_candidates(group) if group.is_sparse else (None, None)
    adjuster = None if group.is_plain else Adjuster(group.records, int(widths.max()), ids)
    parameters = DeviceRecords(group.records, device, _columns(group, uniforms, adjuster))
    raw = stage(group.records, group.dtype, device) if sorted_logits is None else upload(sorted_logits, device)
    ragged = None
    if int(widths.min()) != raw.shape[1]:
        ragged = parameters.column("width")
    is_weights = group.kind == InputKind.PROBABILITIES
    logits = decode_rows(raw, ragged, 0.0 if is_weights else _NEVER)
    fault = _fault(raw, logits, ragged, is_weights=is_weights)
    guided = None
    if group.guidance_dtype is not None:
        other = stage(group.records, group.guidance_dtype, device, "guidance")
        guidance = decode_rows(other, ragged, 0.0 if is_weights else _NEVER)
        scale = parameters.column("guidance_scale")
        guided = guide(logits, guidance, scale, parameters.column("shift"), is_weights=is_weights)
        is_bad = ~(guidance.amax(1, keepdim=True) < float("inf"))
        own = _fault(other, guidance, ragged, is_weights=is_weights)
        fault = reduce(or_, (each for each in (fault, own) if each is not None), is_bad)
    weights = None
    if is_weights:
        weights, logits = logits if guided is None else None, logits.log()
    health = logits.amax(1, keepdim=True)
    if fault is not None:
        health = torch.where(fault, float("nan"), health)
    return LoadedRows(group, parameters, logits, health, ids=ids, weights=weights, guided=guided, adjuster=adjuster)


def _columns(
    group: RowGroup, uniforms: NDArray[np.float64] | None, adjuster: Adjuster | None
) -> dict[str, NDArray[np.float64]]:
    """Compute what the host knows of each row, float64[B, k] by name: it crosses in the one copy of the records."""
    records = group.records
    shifts = [shift_of(vocab_size) for vocab_size in records["vocab_size"].tolist()]
    columns = {"shift": np.array(shifts, np.float64)[:, None]}
    if uniforms is not None:
        columns["uniforms"] = uniforms
    if adjuster is not None:
        columns["as_logits"] = adjuster.as_logits[:, None].astype(np.float64)
        columns["adjusted_rest"] = adjuster.rest[:, None]
        columns["is_raised"] = adjuster.undecided[:, None].astype(np.float64)
    if any(own.is_on(Fields(records)).any() for own in FILTERS if own.name == "xtc"):
        columns["xtc_uniform"] = draw_uniforms(records, 1, Purpose.XTC)
    if is_shaped(Fields(records)).any():
        targets = [moving_target(*own) for own in records[_MOVING].tolist()]
        columns["moving_target"] = np.array(targets, np.float64)[:, None]
    return columns


def _fault(raw: Tensor, values: Tensor, widths: Tensor | None, *, is_weights: bool) -> Tensor | None:
    """Find rows, bool[B, 1], that hold what no row may hold and what their largest number does not show.

    Args: raw, values, [B, W] as staged and as decoded; widths, int64[B, 1], or None when all are W. None: there are no
    such rows.
    """
    if is_weights:
        return values.amin(1, keepdim=True) < 0
    if raw.dtype != torch.float64:
        return None
    overflowed = (values == _NEVER) & (raw != _NEVER)
    if widths is not None:  # the padding of a row is no overflow
        overflowed &= torch.arange(raw.shape[1], device=raw.device) < widths
    return overflowed.any(1, keepdim=True)


def _sorted_candidates(group: RowGroup) -> tuple[list[NDArray[np.int64]], NDArray[np.float32]]:
    """Read candidates: the ids, ascending, and logits float32[B, W] in their order."""
    records = group.records
    logits = np.zeros((len(records), int(records["width"].max())), np.float32)
    ids = []
    for row, record in enumerate(records):
        own = read_ids(record, "candidate_ids", "width").astype(np.int64)
        by_id = np.argsort(own)
        ids.append(own[by_id])
        logits[row, : len(own)] = read_bytes(int(record["data"]), 4 * len(own)).view("<f4")[by_id]
    return ids, logits
