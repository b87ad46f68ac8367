"""A sampler that draws and verifies what `scope.py` says on a card, by kernels for a GPU, and the rest on the CPU.

Both give the same bits, so that nobody can tell which of them did it. Rule 1: `begin` waits for nothing; the card
may have several batches, and `begin` and what ends a batch may be called by two threads. Rule 2: whatever a card cannot
take is drawn by the CPU: rows for which it has no memory, even alone, a batch it refuses, and once its context is lost
everything. Rule 3: a batch that the CPU draws in less time than the host takes to tell the card of it stays on the CPU,
but for rows that lie on the card already.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda.arena import SLOT, Arena
from samplerd_server.sampling.cuda.assignments import DraftAssignment, RowAssignment
from samplerd_server.sampling.cuda.batch_memory import BatchMemory
from samplerd_server.sampling.cuda.card import CardError, CardLostError, LaunchError, OutOfCardMemoryError
from samplerd_server.sampling.cuda.copied_rows import CopiedRows
from samplerd_server.sampling.cuda.cpu import CpuSampler
from samplerd_server.sampling.cuda.flight import Flight
from samplerd_server.sampling.cuda.regions import CardRegions
from samplerd_server.sampling.cuda.residents import Residents
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.rows import DraftBatch, DraftSequence, new_results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.cuda.assignments import Assignment
    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
    from samplerd_server.sampling.rows import DraftVerdict, RowBatch, RowResults

__all__ = ["CudaSampler"]

_LOG = logging.getLogger("samplerd.cuda")
_RESIDENT_SHARE = 2
"""The part of device memory that rows of distributions may take: a half."""
_COPIED_SHARE = 4
"""The part that rows out of other processes' memory may take while they wait: a quarter, and another is left."""


class CudaSampler:
    """See `sampling.sampler.Sampler` and `EarlySampler`."""

    def __init__(self, card: Card, *, device_bytes: int, locked_bytes: int, threads: int = 1) -> None:
        """Prepare it.

        Args:
            card: not started yet.
            device_bytes: device memory for rows and scratch.
            locked_bytes: page-locked memory for rows on their way, records and results.
            threads: CPU threads that draw what the card does not.

        """
        self.card = card
        self._threads = threads
        self._sizes = (device_bytes // SLOT * SLOT, locked_bytes // SLOT * SLOT)
        self.copied = CopiedRows(card)
        self._others = CpuSampler(threads, self.copied)
        self._cpu = threading.Lock()
        self._flights: list[Flight] = []
        self._in_flight = threading.Lock()
        self._loss: CardLostError | None = None
        self.device, self.locked = Arena(0, 0), Arena(0, 0)
        self.residents = Residents()
        self.regions = CardRegions(card, self.copied)
        """Memory of other processes on the card."""

    @property
    def name(self) -> str:
        """As GetServerInfo and the log show it."""
        return f"{self.card.name} + numba"

    @property
    def capabilities(self) -> frozenset[str]:
        """Fields of the contract that work."""
        return self._others.capabilities

    @property
    def most_draws(self) -> int:
        """As the CPU's, which makes all draws in slices."""
        return self._others.most_draws

    @property
    def in_flight(self) -> int:
        """Parts of batches that the card has. May be read from any thread."""
        return len(self._flights)

    @property
    def numbers(self) -> Mapping[str, Callable[[], float]]:
        """What can be read of the card, and of what it was told, by the names of metrics. For any thread."""
        counts = self.card.counts
        return {
            "device_memory_limit_bytes": lambda: self.device.size,
            "device_memory_bytes": lambda: self.device.used_bytes,
            "device_kept_bytes": lambda: self.residents.used_bytes,
            "device_waiting_bytes": lambda: self.copied.used_bytes,
            "device_locked_bytes": lambda: self.locked.used_bytes,
            "device_batches": lambda: self.in_flight,
            "device_copies": lambda: counts.copies,
            "device_copied_bytes": lambda: counts.copied_bytes,
            "device_launches": lambda: counts.launches,
            "device_waits": lambda: counts.waits,
            "device_lost": lambda: self._loss is not None,
            **self.card.sensors,
        }

    def warm_up(self) -> None:
        """Load or compile the CPU's kernels, start the card and take its memory.

        Raises:
            DeviceError: the card does not start, or has less memory.

        """
        torch.set_num_threads(self._threads)
        self._others.warm_up()
        try:
            self.card.start()
            self.device, self.locked = (
                Arena(allocate(size), size)
                for allocate, size in zip((self.card.allocate, self.card.allocate_locked), self._sizes, strict=True)
            )
            self.residents.start(self.device, self._sizes[0] // _RESIDENT_SHARE)
            self.copied.start(self.device, self._sizes[0] // _COPIED_SHARE)
        except CardError as error:
            raise DeviceError(f"the card cannot be used: {error}; --device-memory is {self._sizes[0]} bytes") from None

    def sample(self, batch: RowBatch) -> RowResults:
        """Draw from every row of the batch; a row's failure is its own status."""
        return self.begin(batch)()

    def begin(self, batch: RowBatch) -> Callable[[], RowResults]:
        """Give the card what it can draw, draw the rest, and return what waits for the card and gives all results."""
        own = self._choose(batch)
        if not own.any():
            results = self._draw(batch)
            return lambda: results
        results = new_results(batch)
        flights, left = self._launch(RowAssignment(batch, np.flatnonzero(own), results))
        self._run(RowAssignment(batch, np.flatnonzero(~own), results), *left)

        def finish() -> RowResults:
            self._land(flights)
            return results

        return finish

    def begin_drafts(self, batch: DraftBatch | ResumedDraft) -> Callable[[], tuple[DraftVerdict, ...]] | None:
        """Give the card what it can verify, verify the rest, and return what waits; None = the card has nothing."""
        if isinstance(batch, DraftBatch):
            sequences = batch.sequences
        elif batch.state is None:
            sequences = (batch.sequence,)
        else:
            return None  # the CPU began it
        own = self._choose_drafts(sequences)
        if not own.any():
            return None
        verdicts: list[DraftVerdict | None] = [None] * len(sequences)
        flights, left = self._launch(DraftAssignment(sequences, np.flatnonzero(own), verdicts))
        if left and not isinstance(batch, DraftBatch):
            return None  # the CPU verifies it in slices
        self._run(DraftAssignment(sequences, np.flatnonzero(~own), verdicts), *left)

        def finish() -> tuple[DraftVerdict, ...]:
            self._land(flights)
            whole = tuple(own for own in verdicts if own is not None)
            assert len(whole) == len(sequences), "a draft has no verdict. This is a bug."
            return whole

        return finish

    def _land(self, flights: list[Flight]) -> None:
        """Wait for the card, and let the CPU do what it lost."""
        for flight in flights:
            try:
                flight.land()
            except CardError as error:
                self._note(error)
                self._run(flight.assignment)
            with self._in_flight:
                if flight in self._flights:
                    self._flights.remove(flight)

    def note_rows(self, memory: NDArray[np.uint8], rows: NDArray[np.uint8]) -> None:
        """Take note of the rows of a distribution, which stay on the card once they were drawn from."""
        self.residents.note(memory, rows)

    def _choose(self, batch: RowBatch) -> NDArray[np.bool_]:
        """Tell which rows the card draws: bool[B]."""
        if self._loss is not None:
            return np.zeros(len(batch), bool)
        own = is_drawn(batch.rows)
        if not self._is_worth(batch.work, len(batch)):
            own &= self.copied.find(batch.rows)
        if self.card.most_draws:
            own &= batch.rows["num_samples"] <= self.card.most_draws
        return own

    def _is_worth(self, work: int, rows: int) -> bool:
        """Tell whether so many rows of this price, 0 = not known, are given to the card: rule 3."""
        least = self.card.overhead_ns + rows * self.card.row_overhead_ns
        return self._loss is None and not 0 < work < least

    def _choose_drafts(self, sequences: Sequence[DraftSequence]) -> NDArray[np.bool_]:
        """Tell which drafts the card verifies: bool[P]."""
        work = sum(own.target.work for own in sequences)
        if not self._is_worth(work, sum(len(own.target) for own in sequences)):
            return np.zeros(len(sequences), bool)
        return np.array([is_drawn(own.target.rows).all() for own in sequences], bool)

    def _launch(self, assignment: Assignment) -> tuple[list[Flight], list[Assignment]]:
        """Give the card an assignment, in halves where it lacks memory; returns also what it does not take."""
        flight = Flight(self.card, BatchMemory(self.device, self.locked, self.residents), assignment)
        try:
            flight.begin()
        except OutOfCardMemoryError:
            if self._land_first() or self.copied.free_unused() or self.residents.evict_unused():  # it may be enough
                return self._launch(assignment)
            if len(assignment) == 1:
                return [], [assignment]
            halves = [self._launch(half) for half in assignment.halves()]
            return [one for flights, _ in halves for one in flights], [one for _, left in halves for one in left]
        except (LaunchError, CardLostError) as error:
            self._note(error)
            return [], [assignment]
        with self._in_flight:
            self._flights.append(flight)
        return [flight], []

    def _land_first(self) -> bool:
        """Wait for the oldest that the card has; returns whether there was one."""
        with self._in_flight:
            flight = self._flights.pop(0) if self._flights else None
        if flight is None:
            return False
        try:
            flight.land()
        except CardError as error:
            self._note(error)  # whoever ends its batch meets it again, and draws it
        return True

    def _note(self, error: CardError) -> None:
        if not isinstance(error, CardLostError):
            _LOG.warning("the card refused a batch, which the CPU drew: %s", error)
        elif self._loss is None:
            self._loss = error
            _LOG.error("the card is lost, and the CPU draws until the server is started again: %s", error)

    def _draw(self, batch: RowBatch) -> RowResults:
        with self._cpu:
            return self._others.sample(batch)

    def _run(self, *assignments: Assignment) -> None:
        """Let the CPU do what the card does not."""
        with self._cpu:
            for own in assignments:
                own.run_on(self._others)

    def verify(
        self, target: RowBatch, draft_ids: NDArray[np.int32], parents: NDArray[np.int32], draft: DenseRows | None
    ) -> DraftVerdict:
        """Accept or correct the drafted tokens of one sequence."""
        own = DraftSequence(target=target, draft_ids=draft_ids, parents=parents, draft=draft)
        begun = self.begin_drafts(DraftBatch(sequences=(own,)))
        if begun is not None:
            return begun()[0]
        with self._cpu:
            return self._others.verify(target, draft_ids, parents, draft)

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Make some of the draws of one row without replacement."""
        with self._cpu:
            return self._others.resume(draw)

    def resume_draft(self, own: ResumedDraft) -> DraftVerdict | None:
        """Try the tokens of one draft: the card tries all of them at once, in the first slice."""
        begun = self.begin_drafts(own)
        if begun is not None:
            return begun()[0]
        with self._cpu:
            return self._others.resume_draft(own)

    def close(self) -> None:
        """Wait for the card, and free its memory."""
        while self._land_first():
            pass
        self.regions.close_all()
        self._others.close()
        self.card.close()
