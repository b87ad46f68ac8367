"""What is computed over several slices and keeps a state between them: draws without replacement, and drafts.

Draws without replacement depend on each other, so what is left of the row stays in memory between the slices; of a
draft, it is the law that rejected tokens have left. A sampler that cannot go on where it stopped, as torch's with a
draft, does all in the first slice. Each object is used by one thread at a time: the event loop, or the device thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplerd_server.sampling.rows import DraftSequence, RowBatch

__all__ = ["ResumedDraft", "ResumedDraw"]


class ResumedDraw:
    """One row that is drawn from without replacement."""

    __slots__ = ("batch", "draws", "state")

    def __init__(self, batch: RowBatch) -> None:
        self.batch = batch
        """The row alone. A sampler may set another whose numbers it can read."""
        self.draws = 0
        """About how many draws the next slice makes. Set before each; a sampler lowers it if it makes fewer."""
        self.state: object = None
        """The sampler's own; None before the first slice."""

    @property
    def samples(self) -> int:
        """Samples that it counts for: all are counted with the first slice."""
        return 0 if self.state is not None else self.batch.samples

    def __len__(self) -> int:
        """Count the rows of the batch."""
        return 1


class ResumedDraft:
    """One draft that is verified."""

    __slots__ = ("sequence", "state", "tokens")

    def __init__(self, sequence: DraftSequence) -> None:
        self.sequence = sequence
        self.tokens = 0
        """How many tokens the next slice tries at most. Set before each."""
        self.state: object = None
        """The sampler's own; None before the first slice."""

    @property
    def samples(self) -> int:
        """Samples that it counts for: its one is counted with the first slice."""
        return 1 if self.state is None else 0

    def __len__(self) -> int:
        """Count the rows of the target model."""
        return len(self.sequence.target)
