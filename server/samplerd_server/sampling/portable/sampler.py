"""The portable sampler: torch operators on any device. The CUDA path, and the CPU's when there is no compiled kernel.

Owns nothing but the choice of device; `portable/` does the work and says why a row's bits never depend on the batch.
Device thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.sampling.portable.answers import fetch, needs_depth, needs_full_list, write
from samplerd_server.sampling.portable.pipeline import run_group
from samplerd_server.sampling.portable.row_groups import FULL_SHARE, group_rows
from samplerd_server.sampling.portable.verify import verify
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW, RowBatch, new_results

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.portable.row_groups import RowGroup
    from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
    from samplerd_server.sampling.rows import DraftVerdict, RowResults

__all__ = ["TorchSampler"]

_GROUP_CPU = 1 << 19
"""Numbers of a group on the CPU: 4 MiB of float64, near the caches; smaller row groups spend their time on calls."""
_GROUP_CUDA = 1 << 25
"""Numbers of a group on a GPU: 256 MiB of float64 a tensor, of which a group needs some five."""

_SLICE_DRAWS = 32
"""Most draws without replacement of a slice. Each takes some 0.3 ms, whatever the row: some forty calls of torch.
Prices are those of the compiled sampler, which makes a thousand in that time."""

_CAPABILITIES = capabilities()


class TorchSampler:
    """See `sampling.sampler.Sampler`."""

    def __init__(self, device: str = "cpu", threads: int = 1) -> None:
        self._device = torch.device(device)
        self._threads = threads
        self._limit = _GROUP_CUDA if self._device.type == "cuda" else _GROUP_CPU

    @property
    def name(self) -> str:
        """``torch``."""
        return "torch"

    @property
    def capabilities(self) -> frozenset[str]:
        """Fields of the contract that work."""
        return _CAPABILITIES

    @property
    def most_draws(self) -> int:
        """Draws without replacement of a row within a slice: prices are those of the compiled sampler."""
        return _SLICE_DRAWS

    def warm_up(self) -> None:
        """Load the device's libraries by drawing from one row of each dtype."""
        torch.set_num_threads(self._threads)
        for dtype in Dtype:
            numbers = np.zeros(8, np.uint8)  # one zero, of any dtype
            hot = HOT.pack(
                numbers.__array_interface__["data"][0], 0, 0, 0, 1.0, 1, 1, 0, 1, 0, dtype, InputKind.LOGITS, 0, 1
            )
            records = np.frombuffer(bytearray(hot + COLD_DEFAULT), ROW)
            self.sample(RowBatch(rows=records, samples=1, keepalive=numbers))

    def sample(self, batch: RowBatch) -> RowResults:
        """Draw from every row of the batch; a row's failure is its own status."""
        results = new_results(batch)
        with torch.inference_mode():
            for _ in self._steps(batch, results):
                pass
        return results

    def verify(
        self, target: RowBatch, draft_ids: NDArray[np.int32], parents: NDArray[np.int32], draft: DenseRows | None
    ) -> DraftVerdict:
        """Accept or correct the drafted tokens of one sequence."""
        with torch.inference_mode():
            return verify(target, draft_ids, parents, draft, self._device)

    def _steps(self, batch: RowBatch, results: RowResults) -> Iterator[None]:
        """Draw from every row; yields before each draw without replacement. In inference mode."""
        for group in group_rows(batch.rows, self._limit):
            yield from self._run(group, results)

    def _run(self, group: RowGroup, results: RowResults) -> Iterator[None]:
        """Draw from a group, and again, together, from those of its rows that need more than the usual path."""
        columns = fetch((yield from run_group(group, self._device)))
        write(group, columns, results)
        if not group.is_full:
            for full in group.some(needs_full_list(group, columns), self._limit // FULL_SHARE):
                yield from self._run(replace(full, is_full=True), results)
        for deep in group.some(needs_depth(group, columns), self._limit // (FULL_SHARE if group.is_full else 1)):
            write(deep, fetch((yield from run_group(deep, self._device, is_deep=True))), results)

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Make some of the draws of one row without replacement; the first slice reads the row."""
        state = draw.state
        if state is None:
            results = new_results(draw.batch)
            draw.state = state = _DrawState(results, self._steps(draw.batch, results))
            count = 1
        else:
            assert isinstance(state, _DrawState), "another sampler began this draw. This is a bug."
            count = draw.draws = min(draw.draws, _SLICE_DRAWS)
        # Not within the generator, which is left between two slices: the mode is one of the thread.
        with torch.inference_mode():
            made = sum(1 for _ in islice(state.steps, count))
        return None if made == count else state.results

    def resume_draft(self, own: ResumedDraft) -> DraftVerdict | None:
        """Try the tokens of one draft: all of them at once."""
        sequence = own.sequence
        return self.verify(sequence.target, sequence.draft_ids, sequence.parents, sequence.draft)

    def close(self) -> None:
        """Nothing to stop: torch owns its threads."""


@dataclass(frozen=True, slots=True)
class _DrawState:
    """A row between two slices of its draws without replacement."""

    results: RowResults
    steps: Iterator[None]
    """Goes on with the next draw."""
