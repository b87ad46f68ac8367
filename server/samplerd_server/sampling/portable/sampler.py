"""The portable sampler: torch operators on any device. The CUDA path, and the CPU's when there is no compiled kernel.

Owns nothing but the choice of device; `portable/` does the work and says why a row's bits never depend on the batch.
Device thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.sampling.portable.answers import fetch, needs_depth, needs_full_list, write
from samplerd_server.sampling.portable.pipeline import run_group
from samplerd_server.sampling.portable.row_groups import group_rows
from samplerd_server.sampling.portable.verify import verify
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW, RowBatch, new_results

if TYPE_CHECKING:
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
            for group in group_rows(batch.rows, self._limit):
                self._run(group, results)
        return results

    def verify(
        self, target: RowBatch, draft_ids: NDArray[np.int32], parents: NDArray[np.int32], draft: DenseRows | None
    ) -> DraftVerdict:
        """Accept or correct the drafted tokens of one sequence."""
        with torch.inference_mode():
            return verify(target, draft_ids, parents, draft, self._device)

    def _run(self, group: RowGroup, results: RowResults, *, is_full: bool = False) -> None:
        """Draw from a group, and again from those of its rows that need more than the usual path."""
        columns = fetch(run_group(group, self._device, is_full=is_full))
        write(group, columns, results)
        if not is_full:
            for index in needs_full_list(group, columns):
                self._run(group.only(index), results, is_full=True)
        for index in needs_depth(group, columns):
            alone = group.only(index)
            write(alone, fetch(run_group(alone, self._device, is_deep=True, is_full=is_full)), results)

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Make the draws of one row without replacement: all of them at once."""
        return self.sample(draw.batch)

    def resume_draft(self, own: ResumedDraft) -> DraftVerdict | None:
        """Try the tokens of one draft: all of them at once."""
        sequence = own.sequence
        return self.verify(sequence.target, sequence.draft_ids, sequence.parents, sequence.draft)

    def close(self) -> None:
        """Nothing to stop: torch owns its threads."""
