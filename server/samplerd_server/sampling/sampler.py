"""The seam between the engine and the mathematics: what every sampler offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.cuda.regions import CardRegions
    from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
    from samplerd_server.sampling.rows import DraftBatch, DraftVerdict, RowBatch, RowResults

__all__ = ["EarlySampler", "NoteRows", "Sampler"]

NoteRows: TypeAlias = "Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]"
"""Is told that some memory holds rows that will be drawn from more than once: the memory, and the rows within."""


class Sampler(Protocol):
    """Draws from rows. One thread at a time calls it; a result depends on its row alone, whatever the batch."""

    @property
    def name(self) -> str:
        """Which implementation this is: ``numba`` or ``torch``. Shown in GetServerInfo and in the log."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Fields of the contract that work, dotted (``SamplingParams.top_k``, ``Outputs.rank``), beyond the basics."""
        ...

    def warm_up(self) -> None:
        """Compile and allocate whatever the first batch would otherwise wait for."""
        ...

    def sample(self, batch: RowBatch) -> RowResults:
        """Draw from every row of the batch. Never raises for what a row holds: that is the row's own status."""
        ...

    def verify(
        self, target: RowBatch, draft_ids: NDArray[np.int32], parents: NDArray[np.int32], draft: DenseRows | None
    ) -> DraftVerdict:
        """Accept or correct the drafted tokens of one sequence.

        Args:
            target: the n + 1 rows of the target model: after the sequence, then after each drafted token.
            draft_ids: int32[n], within [0, V).
            parents: int32[n], the index of the drafted token that each follows, below its own; -1 = the sequence.
            draft: n rows of weights that they were drawn from, or None if each was certain.

        """
        ...

    @property
    def most_draws(self) -> int:
        """Draws without replacement of a row within a slice, whatever their price; 0 = it has no bound of its own."""
        ...

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Make some of the draws of one row without replacement.

        Args:
            draw: the row, with what the slices before have left in its state.

        Returns:
            The row's results, which are those of `sample`, to the bit; None = draws are left.

        """
        ...

    def resume_draft(self, own: ResumedDraft) -> DraftVerdict | None:
        """Try some of the tokens of one draft.

        Args:
            own: the draft, with what the slices before have left in its state.

        Returns:
            The verdict, which is that of `verify`; None = tokens are left to try.

        """
        ...

    def close(self) -> None:
        """Stop threads and free memory. Nothing may be called afterwards."""
        ...


@runtime_checkable
class EarlySampler(Protocol):
    """A sampler that can begin a batch before the one before it has ended.

    One thread at a time calls `begin`, and everything of `Sampler`; another may end what was begun meanwhile.
    """

    @property
    def numbers(self) -> Mapping[str, Callable[[], float]]:
        """What can be read of its device, each by the attribute of its metric. May be read from any thread."""
        ...

    @property
    def regions(self) -> CardRegions:
        """Memory of other processes on its device."""
        ...

    def begin(self, batch: RowBatch) -> Callable[[], RowResults]:
        """Begin to draw from every row of the batch, without waiting.

        Returns:
            What waits for the end, and gives the results that `sample` would. Called once, by any thread.

        """
        ...

    def begin_drafts(self, batch: DraftBatch | ResumedDraft) -> Callable[[], tuple[DraftVerdict, ...]] | None:
        """Begin to verify drafts, without waiting: all of a batch, or all tokens of one that no slice has begun.

        Returns:
            What waits for the end, and gives the verdicts, as `begin` does; None = it begins none of them early, and
            `verify` or `resume_draft` should be called.

        """
        ...

    def note_rows(self, memory: NDArray[np.uint8], rows: NDArray[np.uint8]) -> None:
        """Take note of rows within some memory, which stay as they are until the memory is freed: see `NoteRows`."""
        ...
