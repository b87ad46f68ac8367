"""The outputs of a group beside its samples: entropies, kept count and mass, the most likely ids, named ids, ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.portable.adjust import read_ids
from samplerd_server.sampling.portable.records import upload
from samplerd_server.sampling.portable.total_order import first
from samplerd_server.sampling.portable.tree import MassTree

if TYPE_CHECKING:
    from samplerd_server.sampling.portable.distribution import Distribution
    from samplerd_server.sampling.portable.logits import LoadedRows
    from samplerd_server.sampling.portable.processed import Processed

__all__ = ["describe", "sample_outputs"]

_NEVER = float("-inf")
_NAN = float("nan")
_FEW_RANKS = 8
"""Up to this many draws, a pass over the row for each is cheaper than sorting it."""


def describe(rows: LoadedRows, processed: Processed, columns: dict[str, Tensor]) -> None:
    """Compute the outputs that concern the row itself, before any draw removes a category."""
    flags = rows.group.output_flags
    if flags & OutputFlags.ENTROPY_RAW:
        columns["entropy_raw"] = rows.raw_distribution.entropy()
    if flags & OutputFlags.ENTROPY_SCALED:
        columns["entropy_scaled"] = rows.scaled.entropy()
    if flags & OutputFlags.ENTROPY_PROCESSED:
        columns["entropy_processed"] = processed.drawn_from.entropy()
    if flags & OutputFlags.KEPT:
        _describe_kept(rows, processed, columns)
    top_n = int(rows.group.records["top_n"].max())
    if top_n:
        _describe_top(rows, processed, top_n, columns)
    if rows.group.records["named_len"].any():
        _describe_named(rows, processed, columns)


def _describe_kept(rows: LoadedRows, processed: Processed, columns: dict[str, Tensor]) -> None:
    """Compute how many categories were kept, and their mass in the scaled distribution."""
    if processed.kept is None or processed.logits is None or processed.positions is None:
        columns["kept_count"], columns["kept_mass"] = processed.count, torch.ones_like(rows.health)
        return
    kept = processed.kept[:, : processed.logits.shape[1]]
    masses = torch.exp((processed.logits - rows.largest) / rows.temperature)
    if not rows.group.is_greedy and rows.has_certain:
        own = rows.scaled.exponents.gather(1, processed.positions[:, : masses.shape[1]]).exp()
        masses = torch.where(rows.is_certain, own, masses)
    mass = MassTree(torch.where(kept, masses, 0.0)).total
    if rows.scaled.rest is not None:
        mass = mass + torch.where(processed.beyond, rows.scaled.rest, 0.0)
    columns["kept_count"] = torch.where(processed.beyond, 0, processed.kept.sum(1, keepdim=True))
    columns["kept_mass"] = (mass / rows.scaled.total).clamp(max=1.0)


def _describe_top(rows: LoadedRows, processed: Processed, top_n: int, columns: dict[str, Tensor]) -> None:
    """Find the most likely n of each kind."""
    flags = rows.group.output_flags
    if flags & OutputFlags.RAW:
        values, positions = first(rows.raw, top_n)
        own = rows.raw_distribution
        columns["top_ids_raw"], columns["top_logprobs_raw"] = _top(
            rows.ids_at(positions), own.logprobs(positions), values > _NEVER, rest=own.rest, top_n=top_n
        )
    if flags & (OutputFlags.SCALED | OutputFlags.PROCESSED):
        values, positions = first(rows.adjusted, top_n)
        is_there = values > _NEVER
        is_there &= torch.arange(values.shape[1], device=values.device) < rows.certain(values)
        own = rows.scaled
        if not rows.group.is_plain:
            is_there &= ~rows.is_certain | (own.logprobs(positions) == 0)
        columns["top_ids_scaled"], columns["top_logprobs_scaled"] = _top(
            rows.ids_at(positions), own.logprobs(positions), is_there, rest=own.rest, top_n=top_n
        )
    if flags & OutputFlags.PROCESSED:
        if processed.exponents is None or processed.positions is None or processed.certain is None:
            for part in ("ids", "logprobs"):
                columns[f"top_{part}_processed"] = columns[f"top_{part}_scaled"]
            return
        exponents = processed.exponents
        places = torch.arange(exponents.shape[1], device=exponents.device)
        is_kept = (exponents > _NEVER) & (places < processed.certain) & (~rows.is_certain | (exponents == 0))
        order = torch.where(is_kept, places, exponents.shape[1]).argsort(dim=1, stable=True)
        if processed.is_reordered:
            order = torch.where(is_kept, processed.positions, exponents.shape[1] << 32).argsort(dim=1, stable=True)
            order = order.gather(1, exponents.gather(1, order).sort(dim=1, descending=True, stable=True).indices)
        order = order[:, :top_n]
        logprobs = exponents.gather(1, order) - processed.drawn_from.total.log()
        ids, rest = rows.ids_at(processed.positions.gather(1, order)), processed.drawn_from.rest
        columns["top_ids_processed"], columns["top_logprobs_processed"] = _top(
            ids, logprobs, is_kept.gather(1, order), rest=rest, top_n=top_n
        )


def _top(ids: Tensor, logprobs: Tensor, is_there: Tensor, *, rest: Tensor | None, top_n: int) -> tuple[Tensor, Tensor]:
    """Put -1 and -inf where there is nothing, up to top_n; NaN where a rest leaves it unknown what follows."""
    missing = (0, top_n - ids.shape[1])
    ids = torch.nn.functional.pad(torch.where(is_there, ids, -1), missing, value=-1)
    logprobs = torch.nn.functional.pad(torch.where(is_there, logprobs, _NEVER), missing, value=_NEVER)
    if rest is not None:
        logprobs = torch.where((ids < 0) & (rest != 0), _NAN, logprobs)
    return ids, logprobs


def _describe_named(rows: LoadedRows, processed: Processed, columns: dict[str, Tensor]) -> None:
    """Compute ln p of named ids in each kind."""
    records, device = rows.group.records, rows.raw.device
    places = np.zeros((len(records), int(records["named_len"].max())), np.int64)
    unsent = np.zeros(places.shape, bool)
    for row, record in enumerate(records):
        named = read_ids(record, "named", "named_len").astype(np.int64)
        own = slice(0, len(named))
        if rows.host_ids is None:
            places[row, own] = named
            continue
        ids = rows.host_ids[row]
        found = np.minimum(np.searchsorted(ids, named), len(ids) - 1)
        places[row, own], unsent[row, own] = found, ids[found] != named
    positions, is_unsent = upload(places, device), upload(unsent, device)
    flags = rows.group.output_flags
    if flags & OutputFlags.RAW:
        own_raw = rows.raw_distribution
        columns["named_raw"] = _unsent(own_raw.logprobs(positions), is_unsent, own_raw)
    if flags & (OutputFlags.SCALED | OutputFlags.PROCESSED):
        columns["named_scaled"] = _unsent(rows.scaled.logprobs(positions), is_unsent, rows.scaled)
    if flags & OutputFlags.PROCESSED:
        if processed.exponents is None or processed.positions is None:
            columns["named_processed"] = columns["named_scaled"]
            return
        spread = torch.full_like(rows.adjusted, _NEVER)
        spread.scatter_(1, processed.positions[:, : processed.exponents.shape[1]], processed.exponents)
        logprobs = spread.gather(1, positions) - processed.drawn_from.total.log()
        columns["named_processed"] = _unsent(logprobs, is_unsent, processed.drawn_from)


def _unsent(logprobs: Tensor, is_unsent: Tensor, distribution: Distribution) -> Tensor:
    """Replace ln p of ids that are no candidates: impossible without a rest, unknown with one."""
    if distribution.rest is None:
        return torch.where(is_unsent, _NEVER, logprobs)
    return torch.where(is_unsent, torch.where(distribution.rest == 0, _NEVER, _NAN), logprobs)


def sample_outputs(rows: LoadedRows, processed: Processed, positions: Tensor, columns: dict[str, Tensor]) -> None:
    """Look up the ids at int64[B, S] positions, and their ranks and probabilities before adaptive-p if any row asks."""
    columns["ids"] = rows.ids_at(positions)
    if rows.group.output_flags & OutputFlags.ADAPTIVE:
        columns["unshaped"] = _unshaped(rows, processed, positions)
    if not rows.group.output_flags & OutputFlags.RANK:
        return
    listed = None if processed.is_reordered else processed.positions
    if listed is None and positions.shape[1] <= _FEW_RANKS and rows.rest is None:
        columns["ranks"] = _count_ranks(rows.adjusted, positions)
        return
    if listed is None:
        listed = first(rows.adjusted, rows.adjusted.shape[1])[1]
    elif processed.logits is not None:
        listed = listed[:, : processed.logits.shape[1]]  # the rest of it is padding
    places = torch.arange(1, listed.shape[1] + 1, device=listed.device).expand_as(listed)
    ranks = torch.zeros(rows.adjusted.shape, dtype=torch.int64, device=listed.device).scatter_(1, listed, places)
    own = ranks.gather(1, positions)
    if rows.rest is not None and processed.certain is not None:
        own = torch.where(own <= processed.certain, own, 0)
    columns["ranks"] = own


def _unshaped(rows: LoadedRows, processed: Processed, positions: Tensor) -> Tensor:
    """Look up the probabilities before adaptive-p at positions, float64[B, S]; 1 where nothing was shaped."""
    if processed.unshaped is None or processed.positions is None:
        return torch.ones_like(positions, dtype=torch.float64)
    own = processed.unshaped
    spread = torch.ones_like(rows.adjusted).scatter_(1, processed.positions[:, : own.shape[1]], own)
    return spread.gather(1, positions)


def _count_ranks(logits: Tensor, positions: Tensor) -> Tensor:
    """1 + how many precede each position in the total order, int64[B, S]."""
    places = torch.arange(logits.shape[1], device=logits.device)
    ranks = []
    for draw in range(positions.shape[1]):
        own = positions[:, draw : draw + 1]
        value = logits.gather(1, own)
        ranks.append(1 + ((logits > value) | ((logits == value) & (places < own))).sum(1, keepdim=True))
    return torch.cat(ranks, dim=1)
