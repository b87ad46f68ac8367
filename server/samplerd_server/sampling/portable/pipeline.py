"""One chunk of rows through all steps: stage, decode, scale, draw, and what was wanted beside the samples.

Returns columns: float64[B, k] tensors by name, all still on the device; `answers.py` copies them back and writes them
down. Ids up to 2^53 are exact in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from samplerd_server.request import Dtype, InputKind, LogprobKind, Wanted
from samplerd_server.sampling.noise import Purpose
from samplerd_server.sampling.portable.chunks import draw_uniforms
from samplerd_server.sampling.portable.distribution import Distribution
from samplerd_server.sampling.portable.staging import decode_rows, stage

if TYPE_CHECKING:
    from samplerd_server.sampling.portable.chunks import Chunk

__all__ = ["Columns", "run_chunk"]

Columns: TypeAlias = dict[str, Tensor]
"""What is known of a chunk's rows: float64[B, k] by name."""

_NEVER = float("-inf")


def run_chunk(chunk: Chunk, device: torch.device, *, is_deep: bool = False) -> Columns:
    """Draw from every row of a chunk.

    `is_deep`: rescale before every draw without replacement; for rows whose column ``left`` fell below `SHALLOW`.
    """
    raw = stage(chunk.records, chunk.dtype, device)
    logits, health = _logits(raw, chunk, device)
    columns = {"health": health}
    if chunk.without:
        columns["positive"] = (logits > _NEVER).sum(1, keepdim=True)
    if chunk.is_greedy:
        _greedy(logits, chunk, columns)
    else:
        _draw(logits, health, chunk, columns, is_deep=is_deep)
    return columns


def _logits(raw: Tensor, chunk: Chunk, device: torch.device) -> tuple[Tensor, Tensor]:
    """Decode rows to logits float64[B, W], and their health float64[B, 1].

    Health is the largest logit; -inf: nothing to draw; NaN or +inf: a fault, which the host looks up.
    """
    widths = chunk.records["width"]
    ragged = None
    if int(widths.min()) != raw.shape[1]:
        ragged = torch.from_numpy(widths.astype(np.int64)[:, None]).to(device)
    is_weights = chunk.kind == InputKind.PROBABILITIES
    logits = decode_rows(raw, ragged, 0.0 if is_weights else _NEVER)
    fault = None
    if is_weights:
        fault = logits.amin(1, keepdim=True) < 0
        logits.log_()
    elif chunk.dtype == Dtype.F64:
        overflowed = (logits == _NEVER) & (raw != _NEVER)
        fault = overflowed.any(1, keepdim=True)
        if ragged is not None:  # the padding of a row is no overflow
            inside = torch.arange(raw.shape[1], device=device) < ragged
            fault = (overflowed & inside).any(1, keepdim=True)
    health = logits.amax(1, keepdim=True)
    return logits, health if fault is None else torch.where(fault, float("nan"), health)


def _greedy(logits: Tensor, chunk: Chunk, columns: Columns) -> None:
    """T = 0: the argmax S times, or the S highest in order without replacement; ties to the lowest id."""
    left, taken = logits, []
    for _ in range(chunk.draws if chunk.without else 1):
        columns_of = torch.arange(left.shape[1], device=left.device)
        is_best = left == left.amax(1, keepdim=True)
        best = torch.where(is_best, columns_of, left.shape[1] - 1).amin(1, keepdim=True)
        taken.append(best)
        if chunk.without:
            left = left.scatter(1, best, _NEVER)
    ids = torch.cat(taken, dim=1)
    columns["ids"] = ids if chunk.without else ids.expand(-1, chunk.draws)


def _draw(logits: Tensor, largest: Tensor, chunk: Chunk, columns: Columns, *, is_deep: bool) -> None:
    """T > 0: draws from softmax(logits / T), with what is wanted of them."""
    device = logits.device
    temperature = torch.from_numpy(chunk.records["temperature"][:, None].copy()).to(device)
    uniforms = torch.from_numpy(draw_uniforms(chunk.records, chunk.draws, Purpose.DRAW)).to(device)
    wants_more = bool(chunk.wanted & ~Wanted.KEPT)
    exponents = (logits - largest).div_(temperature)
    scaled = Distribution(exponents, will_forget=not (wants_more or chunk.without))
    watched: dict[LogprobKind, Distribution] = {LogprobKind.SCALED: scaled}
    if chunk.wanted & (Wanted.RAW | Wanted.ENTROPY_RAW):
        watched[LogprobKind.RAW] = Distribution(logits - largest)
    if chunk.wanted & Wanted.ENTROPY_RAW:
        columns["entropy_raw"] = watched[LogprobKind.RAW].entropy()
    if chunk.wanted & (Wanted.ENTROPY_SCALED | Wanted.ENTROPY_PROCESSED):
        columns["entropy_scaled"] = columns["entropy_processed"] = scaled.entropy()
    if chunk.without:
        _draw_without(scaled, watched, uniforms, columns, is_deep=is_deep)
    else:
        columns["ids"] = scaled.draw(uniforms)
        if wants_more:
            for kind, distribution in watched.items():
                columns[f"logprobs_{kind.name.lower()}"] = distribution.logprobs(columns["ids"])


def _draw_without(
    drawn: Distribution,
    watched: dict[LogprobKind, Distribution],
    uniforms: Tensor,
    columns: Columns,
    *,
    is_deep: bool,
) -> None:
    """Successive draws; each takes its category out of every distribution that is watched."""
    ids, left = [], []
    logprobs: dict[LogprobKind, list[Tensor]] = {kind: [] for kind in watched}
    for draw in range(uniforms.shape[1]):
        left.append(torch.cat([one.total for one in watched.values()], dim=1).amin(1, keepdim=True))
        found = drawn.draw(uniforms[:, draw : draw + 1])
        ids.append(found)
        for kind, distribution in watched.items():
            logprobs[kind].append(distribution.logprobs(found))
            if is_deep:
                distribution.rebase(found)
            else:
                distribution.remove(found)
    columns["ids"] = torch.cat(ids, dim=1)
    columns["left"] = torch.cat(left, dim=1)
    for kind, parts in logprobs.items():
        columns[f"logprobs_{kind.name.lower()}"] = torch.cat(parts, dim=1)
