"""A sampler that draws what `scope.py` says by kernels for a GPU, interpreted, and other rows by the CPU's kernels.

It serves tests, and developers who have no GPU: `--device interpret`. A draw takes some tenths of a second. Both give
the same bits, so that nobody can tell which of them drew a row. Device thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch, make_exact
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.rows import new_results

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
    from samplerd_server.sampling.rows import DraftVerdict, RowBatch, RowResults

__all__ = ["InterpretedSampler"]

_MOST_DRAWS = 64
"""Draws of a row that are interpreted at most: each takes some 50 ms."""

_T = TypeVar("_T", np.int32, np.int64, np.float32)


class InterpretedSampler:
    """See `sampling.sampler.Sampler`."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._others = NumbaSampler(threads)

    @property
    def name(self) -> str:
        """As GetServerInfo and the log show it."""
        return "triton-interpreter + numba"

    @property
    def capabilities(self) -> frozenset[str]:
        """Fields of the contract that work."""
        return self._others.capabilities

    @property
    def most_draws(self) -> int:
        """As the CPU's, which makes all draws without replacement."""
        return self._others.most_draws

    def warm_up(self) -> None:
        """Make the interpreter exact, and load or compile the CPU's kernels."""
        torch.set_num_threads(self._threads)
        make_exact()
        self._others.warm_up()

    def sample(self, batch: RowBatch) -> RowResults:
        """Draw from every row of the batch; a row's failure is its own status."""
        own = (batch.rows["num_samples"] <= _MOST_DRAWS) & is_drawn(batch.rows)
        if not own.any():
            return self._others.sample(batch)
        results = new_results(batch)
        if not own.all():
            results = _spread(self._others.sample(replace(batch, rows=batch.rows[~own])), results, ~own)
        some = _choose(results, own)
        draw(batch.rows[own], some, launch)
        return _spread(some, results, own)

    def verify(
        self, target: RowBatch, draft_ids: NDArray[np.int32], parents: NDArray[np.int32], draft: DenseRows | None
    ) -> DraftVerdict:
        """Accept or correct the drafted tokens of one sequence."""
        return self._others.verify(target, draft_ids, parents, draft)

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Make some of the draws of one row without replacement."""
        return self._others.resume(draw)

    def resume_draft(self, own: ResumedDraft) -> DraftVerdict | None:
        """Try the tokens of one draft."""
        return self._others.resume_draft(own)

    def close(self) -> None:
        """Nothing to stop."""
        self._others.close()


def _choose(results: RowResults, where: NDArray[np.bool_]) -> RowResults:
    """Copy the outputs by row of some rows: bool[B]; outputs by sample are those of all."""
    kept_count, kept_mass = results.kept_count, results.kept_mass
    return replace(
        results,
        status=results.status[where],
        detail=results.detail[where],
        entropy={kind: of_all[where] for kind, of_all in results.entropy.items()},
        kept_count=None if kept_count is None else kept_count[where],
        kept_mass=None if kept_mass is None else kept_mass[where],
    )


def _spread(others: RowResults, results: RowResults, where: NDArray[np.bool_]) -> RowResults:
    """Take the outputs by sample of some of the rows as they are, and put those by row where the rows are: bool[B]."""

    def by_row(some: NDArray[_T], of_all: NDArray[_T]) -> NDArray[_T]:
        of_all[where] = some
        return of_all

    kept_count, kept_mass = results.kept_count, results.kept_mass
    if others.kept_count is not None and kept_count is not None:
        kept_count = by_row(others.kept_count, kept_count)
    if others.kept_mass is not None and kept_mass is not None:
        kept_mass = by_row(others.kept_mass, kept_mass)
    return replace(
        others,
        status=by_row(others.status, results.status),
        detail=by_row(others.detail, results.detail),
        entropy={kind: by_row(some, results.entropy[kind]) for kind, some in others.entropy.items()},
        kept_count=kept_count,
        kept_mass=kept_mass,
    )
