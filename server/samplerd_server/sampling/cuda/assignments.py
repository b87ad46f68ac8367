"""What a card is given at a time: some rows of a batch to draw from, or some drafts of a batch to verify.

An assignment knows where its answers belong, how it is launched, and how the CPU does it where the card cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from samplerd_server.sampling.cuda.drafts import Draft, Judged, enqueue_drafts, new_judged, read_verdicts
from samplerd_server.sampling.cuda.draw import enqueue
from samplerd_server.sampling.cuda.parts import part_of, put_results
from samplerd_server.sampling.cuda.staging import stage
from samplerd_server.sampling.rows import new_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.batch_memory import BatchMemory
    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.rows import DraftSequence, DraftVerdict, RowBatch, RowResults
    from samplerd_server.sampling.sampler import Sampler

__all__ = ["Assignment", "DraftAssignment", "RowAssignment"]


class Assignment(Protocol):
    """Work for a card."""

    def __len__(self) -> int:
        """Count what it can be split into."""
        ...

    def halves(self) -> Sequence[Assignment]:
        """Split it in two, each with at least one of what it has at least two of."""
        ...

    def enqueue(self, card: Card, memory: BatchMemory) -> None:
        """Enqueue everything.

        Raises:
            CardError: it could not be enqueued.

        """
        ...

    def put(self) -> None:
        """Put the answers where they belong, once the card has passed; they are not read again."""
        ...

    def run_on(self, cpu: Sampler) -> None:
        """Let the CPU do it, and put the answers where they belong."""
        ...


class RowAssignment:
    """Some rows of a batch."""

    def __init__(self, batch: RowBatch, places: NDArray[np.int64], results: RowResults) -> None:
        """Prepare it for the rows at int64[N] places; the results of the whole batch are where theirs belong."""
        self.batch = batch
        self.places = places
        self.results = results
        self.answers: RowResults | None = None
        """In page-locked memory, while the card has the assignment."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.places)

    def halves(self) -> list[RowAssignment]:
        """See `Assignment`."""
        return [RowAssignment(self.batch, half, self.results) for half in np.array_split(self.places, 2)]

    def enqueue(self, card: Card, memory: BatchMemory) -> None:
        """See `Assignment`."""
        part = part_of(self.batch, self.places)
        rows, _ = stage(part.rows, memory, card)
        self.answers = memory.lock_results(new_results(part))
        enqueue(rows, self.answers, card.launch, memory)

    def put(self) -> None:
        """See `Assignment`."""
        assert self.answers is not None, "an assignment that was not enqueued has no answers. This is a bug."
        put_results(self.results, self.batch, self.answers, self.places)
        self.answers = None

    def run_on(self, cpu: Sampler) -> None:
        """See `Assignment`."""
        if len(self.places):
            put_results(self.results, self.batch, cpu.sample(part_of(self.batch, self.places)), self.places)


class DraftAssignment:
    """Some drafts of a batch."""

    def __init__(
        self, sequences: Sequence[DraftSequence], places: NDArray[np.int64], verdicts: list[DraftVerdict | None]
    ) -> None:
        """Prepare it for the drafts at int64[N] places of a batch, which are those of their verdicts too."""
        self.sequences = sequences
        self.places = places
        self.verdicts = verdicts
        self.answers: tuple[list[Draft], Judged] | None = None
        """The drafts, and what the card says of them, in page-locked memory, while it has the assignment."""

    def __len__(self) -> int:
        """Count the drafts."""
        return len(self.places)

    def halves(self) -> list[DraftAssignment]:
        """See `Assignment`."""
        return [DraftAssignment(self.sequences, half, self.verdicts) for half in np.array_split(self.places, 2)]

    def enqueue(self, card: Card, memory: BatchMemory) -> None:
        """See `Assignment`."""
        own = [self.sequences[at] for at in self.places.tolist()]
        targets = np.concatenate([sequence.target.rows for sequence in own])
        rows, placed = stage(targets, memory, card, [_span_of(sequence) for sequence in own])
        drafts = [_draft_of(sequence, address) for sequence, address in zip(own, placed, strict=True)]
        blank = new_judged(drafts)
        judged = Judged(path=memory.lock(blank.path), verdicts=memory.lock(blank.verdicts))
        self.answers = drafts, judged
        enqueue_drafts(rows, drafts, judged, card.launch, memory)

    def put(self) -> None:
        """See `Assignment`."""
        assert self.answers is not None, "an assignment that was not enqueued has no answers. This is a bug."
        for at, verdict in zip(self.places.tolist(), read_verdicts(*self.answers), strict=True):
            self.verdicts[at] = verdict
        self.answers = None

    def run_on(self, cpu: Sampler) -> None:
        """See `Assignment`."""
        for at in self.places.tolist():
            own = self.sequences[at]
            self.verdicts[at] = cpu.verify(own.target, own.draft_ids, own.parents, own.draft)


def _span_of(sequence: DraftSequence) -> tuple[int, int]:
    """Find the address and the size, in bytes, of the distributions that a draft was drawn from; 0 = there are none."""
    if sequence.draft is None:
        return 0, 0
    held = np.frombuffer(sequence.draft.data, np.uint8)
    return held.__array_interface__["data"][0], held.nbytes


def _draft_of(sequence: DraftSequence, address: int) -> Draft:
    own = sequence.draft
    width = int(sequence.target.rows["width"][0])
    ids, parents = (np.ascontiguousarray(some, np.int32) for some in (sequence.draft_ids, sequence.parents))
    if own is None:
        return Draft(ids=ids, parents=parents, width=width)
    return Draft(ids=ids, parents=parents, width=width, address=address, dtype=own.dtype)
