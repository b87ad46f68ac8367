"""One row group through all steps: stage, decode, adjust, scale, filter, draw.

Returns columns: float64[B, k] tensors by name, all still on the device; `answers.py` copies them back and writes them
down. Ids up to 2^53 are exact in them. Draws without replacement are one step each, so that a long row can be left
between two of them: what makes them is a generator, which yields before each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from samplerd_server.core.enums import LogprobKind
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.noise import Purpose
from samplerd_server.sampling.portable.load import load
from samplerd_server.sampling.portable.outputs import describe, sample_outputs
from samplerd_server.sampling.portable.processed import Processed, process
from samplerd_server.sampling.portable.row_groups import draw_uniforms

if TYPE_CHECKING:
    from collections.abc import Generator

    from samplerd_server.sampling.portable.distribution import Distribution
    from samplerd_server.sampling.portable.logits import LoadedRows
    from samplerd_server.sampling.portable.row_groups import RowGroup

__all__ = ["Columns", "run_group"]

Columns: TypeAlias = dict[str, Tensor]
"""The results of a group's rows: float64[B, k] by name."""


def run_group(group: RowGroup, device: torch.device, *, is_deep: bool = False) -> Generator[None, None, Columns]:
    """Draw from every row of a group; yields before each draw without replacement.

    `is_deep`: rescale what a draw without replacement leaves, if it is too little; for rows whose column ``left`` fell
    below `SHALLOW`.
    """
    uniforms = None if group.is_greedy else draw_uniforms(group.records, group.draws, Purpose.DRAW)
    rows = load(group, device, uniforms)
    processed = process(rows, is_full=group.is_full)
    columns: Columns = {"health": rows.health, **rows.emptied}
    columns["undecided"], columns["beyond"] = processed.undecided, processed.beyond
    if group.without:
        columns["positive"] = processed.count
    describe(rows, processed, columns)  # before any draw takes something away
    if group.is_greedy:
        drawn = processed.firsts if group.without else processed.firsts[:, :1].expand(-1, group.draws)
        yield from _follow(rows, processed, drawn, columns)
    else:
        own = rows.parameters.column("uniforms")
        if group.without:
            yield from _draw_without(rows, processed, own, columns, is_deep=is_deep)
        else:
            outside = processed.drawn_from.falls_outside(own)
            if outside is not None:
                columns["outside"] = outside
            found = processed.drawn_from.draw(own)
            _with_logprobs(rows, processed, found, columns)
    return columns


def _with_logprobs(rows: LoadedRows, processed: Processed, found: Tensor, columns: Columns) -> None:
    """Write ids and log-probabilities of draws with replacement, given as places in the distribution."""
    positions = processed.drawn_from.ids(found)
    sample_outputs(rows, processed, positions, columns)
    flags = rows.group.output_flags
    if flags & OutputFlags.RAW:
        columns["logprobs_raw"] = rows.raw_distribution.logprobs(positions)
    if flags & OutputFlags.SCALED:
        columns["logprobs_scaled"] = rows.scaled.logprobs(positions)
    if flags & OutputFlags.PROCESSED:
        columns["logprobs_processed"] = processed.drawn_from.logprobs(found)


def _watched(rows: LoadedRows) -> dict[LogprobKind, Distribution]:
    """List the distributions over whole rows of which log-probabilities are asked for."""
    watched = {}
    if rows.group.output_flags & OutputFlags.RAW:
        watched[LogprobKind.RAW] = rows.raw_distribution
    if rows.group.output_flags & OutputFlags.SCALED:
        watched[LogprobKind.SCALED] = rows.scaled
    return watched


def _follow(rows: LoadedRows, processed: Processed, positions: Tensor, columns: Columns) -> Generator[None]:
    """Write greedy choices: certain in the processed distribution, with their probabilities in the others."""
    sample_outputs(rows, processed, positions, columns)
    if rows.group.output_flags & OutputFlags.PROCESSED:
        columns["logprobs_processed"] = torch.zeros_like(positions, dtype=torch.float64)
    for kind, distribution in _watched(rows).items():
        name = f"logprobs_{kind.name.lower()}"
        if not rows.group.without:
            columns[name] = distribution.logprobs(positions)
            continue
        parts = []
        for draw in range(positions.shape[1]):
            yield
            own = positions[:, draw : draw + 1]
            parts.append(distribution.logprobs(own))
            distribution.rebase(own)
        columns[name] = torch.cat(parts, dim=1)


def _draw_without(
    rows: LoadedRows, processed: Processed, uniforms: Tensor, columns: Columns, *, is_deep: bool
) -> Generator[None]:
    """Successive draws; each takes its category out of every distribution that is watched."""
    drawn_from = processed.drawn_from
    watched = _watched(rows)
    # The distribution that is drawn from may be the scaled one itself: it must give up a category once only.
    others = {kind: own for kind, own in watched.items() if own is not drawn_from}
    names = [LogprobKind.PROCESSED, *others]
    found_at, left, outside = [], [], []
    logprobs: dict[LogprobKind, list[Tensor]] = {kind: [] for kind in names}
    for draw in range(uniforms.shape[1]):
        yield
        left.append(torch.cat([own.total for own in (drawn_from, *others.values())], dim=1).amin(1, keepdim=True))
        own_uniforms = uniforms[:, draw : draw + 1]
        is_outside = drawn_from.falls_outside(own_uniforms)
        outside += [] if is_outside is None else [is_outside]
        found = drawn_from.draw(own_uniforms)
        position = drawn_from.ids(found)
        found_at.append(position)
        for kind, distribution, place in (
            (LogprobKind.PROCESSED, drawn_from, found),
            *((kind, own, position) for kind, own in others.items()),
        ):
            logprobs[kind].append(distribution.logprobs(place))
            if is_deep:
                distribution.rebase(place)
            else:
                distribution.remove(place)
    if LogprobKind.SCALED in others and not rows.group.is_plain:
        logprobs[LogprobKind.SCALED] = _after_certain(rows.is_certain, logprobs[LogprobKind.SCALED])
    columns["left"] = torch.cat(left, dim=1)
    if outside:
        columns["outside"] = torch.cat(outside, dim=1)
    for kind, parts in logprobs.items():
        columns[f"logprobs_{kind.name.lower()}"] = torch.cat(parts, dim=1)
    if LogprobKind.SCALED in watched and LogprobKind.SCALED not in others:
        columns["logprobs_scaled"] = columns["logprobs_processed"]
    sample_outputs(rows, processed, torch.cat(found_at, dim=1), columns)


def _after_certain(is_certain: Tensor, parts: list[Tensor]) -> list[Tensor]:
    """Give all draws the ln p of the first where the scaled distribution is certainty: float64[B, 1] for each draw.

    What it is certain of is drawn first, or a filter dropped it. Once it is drawn, what comes next is certain.
    """
    return [torch.where(is_certain, parts[0], part) for part in parts]
