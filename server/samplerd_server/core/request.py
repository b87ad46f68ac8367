"""Decoded requests.

Rule 1: entities know neither grpc nor torch. Rule 2: everything that crosses a layer is frozen. Rule 3: values have
been checked and normalised; no later step checks a range again.

Letters, here and everywhere: B rows, V vocabulary, K kept, S draws per row.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING

from samplerd_server.core.entity import entity
from samplerd_server.core.enums import InputKind
from samplerd_server.core.held_bytes import lists_bytes, rows_bytes
from samplerd_server.core.outputs import NO_OUTPUTS, Outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.rows import CandidateRows, CdfIndex, DenseRows, StoredRows

__all__ = ["RNG", "ReplyHead", "SampleRequest", "VerifyRequest"]

RNG = "philox4x32-10/2"
"""Name and version of the noise and of the law that turns it into ids (docs/sampling.md)."""


@entity
class ReplyHead:
    """What a reply repeats of its request, without the rows."""

    id: int
    seed: int
    outputs: Outputs


@entity
class SampleRequest:
    """A decoded request to draw from rows."""

    id: int
    source: DenseRows | CandidateRows | StoredRows
    params: tuple[SamplingParams, ...]
    """One for all rows, or one per row."""
    guidance: DenseRows | None = None
    """The guidance row of each row, of its V and kind; rows with a guidance_scale of 1 do not use theirs."""
    num_samples: int = 1
    """S."""
    with_replacement: bool = True
    kind: InputKind = InputKind.LOGITS
    seed: int = 0
    """The key of the noise; unused with row_seeds."""
    row_seeds: NDArray[np.uint64] | None = None
    """uint64[rows], or None. With it every row has row index 0."""
    draw_offset: int = 0
    outputs: Outputs = field(default_factory=lambda: NO_OUTPUTS)
    priority: int = 0
    greedy_rows: int = 0
    """Rows with T = 0. Set at decode."""
    work: int = 0
    """Price of the request in nanoseconds (`sampling/price.py`), from which its time is predicted. Set at decode."""
    load: Callable[[], None] | None = None
    """Copies the rows out of shared memory once the request is admitted; None = the rows are in memory already."""
    cdf_index: CdfIndex | None = None
    """Draw from this CDF index and not from the rows of the source, which is a StoredRows. Set at decode."""
    first_row: int = 0
    """Row index of the first row; above 0 if this is a part of a larger request."""
    drawn: int = 0
    """Draws of the row that earlier parts of a larger request have made; `draw_offset` counts them already."""
    is_divisible: bool = False
    """Whether any part of the draws may be drawn alone and no row can fail. Set at decode, for distributions."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.source.rows

    @property
    def size_bytes(self) -> int:
        """Bytes of the rows that are read."""
        if self.guidance is not None:
            return self.source.size_bytes + self.guidance.size_bytes
        return self.source.size_bytes if self.cdf_index is None else 0

    @property
    def held_bytes(self) -> int:
        """Bytes that the request keeps in memory while it waits: rows, the message around them, lists of ids."""
        held = rows_bytes(self.source, self.guidance) if self.cdf_index is None else 0
        for values in (self.row_seeds, self.outputs.logprob_ids):
            if values is not None:
                held += values.nbytes
        return held + lists_bytes(self.params)

    @property
    def head(self) -> ReplyHead:
        """What its reply repeats of it."""
        outputs = self.outputs if self.outputs.logprob_ids is None else replace(self.outputs, logprob_ids=None)
        return ReplyHead(id=self.id, seed=self.seed, outputs=outputs)

    @property
    def samples(self) -> int:
        """Samples in the answer: the request's share of a batch's bound."""
        return self.source.rows * self.num_samples


@entity
class VerifyRequest:
    """A decoded request to accept or correct the drafted tokens of one sequence."""

    id: int
    target: SampleRequest
    """The n + 1 rows of the target model, one sample each: after the sequence, then after each drafted token."""
    draft_ids: NDArray[np.int32]
    """int32[n], within [0, V)."""
    parents: NDArray[np.int32]
    """int32[n]: the index of the drafted token that each follows, below its own; -1 = the sequence."""
    draft: DenseRows | None
    """The n rows of weights that the draft was drawn from; None = each token was certain."""
    priority: int = 0

    @property
    def rows(self) -> int:
        """Rows of the target model."""
        return self.target.rows

    @property
    def size_bytes(self) -> int:
        """Bytes of the rows that are read."""
        return self.target.size_bytes + (self.draft.size_bytes if self.draft else 0)

    @property
    def held_bytes(self) -> int:
        """Bytes that the request keeps in memory while it waits."""
        target = self.target
        own = rows_bytes(target.source, self.draft) + self.draft_ids.nbytes + self.parents.nbytes
        return own + lists_bytes(target.params)

    @property
    def samples(self) -> int:
        """Samples that are drawn: always one."""
        return 1

    @property
    def cdf_index(self) -> None:
        """None: drafts are verified against rows."""
        return

    @property
    def work(self) -> int:
        """Price of the target's rows in nanoseconds; reading the draft takes a part of it."""
        return self.target.work

    @property
    def greedy_rows(self) -> int:
        """Rows with T = 0."""
        return self.target.greedy_rows
