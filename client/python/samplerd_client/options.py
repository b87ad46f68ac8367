"""The keywords of `sample`: the same in a unary call, on a stream, in the synchronous client and in samplerctl."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_client.sampling_params import SamplingFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_client.params import Candidates, Ids, LogprobKind, SamplingParams, SharedMemory
    from samplerd_client.shared_memory import Slot

__all__ = ["SampleOptions", "SamplingFields"]


class SampleOptions(SamplingFields, total=False):
    """The keywords of `sample`: the fields of SamplingParams, and these."""

    params: SamplingParams | None
    """Parameters of all rows, instead of single keywords."""
    row_params: Sequence[SamplingParams] | None
    """Parameters of each row."""
    num_samples: int
    """Samples from each row, S. Default 1."""
    replacement: bool
    """Whether an id may be drawn twice from one row. Default True."""
    seed: int | None
    """Key of the noise, 0 to 2^64 - 1. None: the server draws one, and the result says which."""
    row_seeds: Ids | None
    """A key for each row, which then draws the same whichever request carries it."""
    draw_offset: int
    """Index of the first draw, to continue a seeded sequence. Default 0."""
    probabilities: bool
    """The numbers are weights, not logits. Default False."""
    candidates: Candidates | None
    """Sparse rows, instead of dense ones."""
    distribution: str | None
    """Name of an uploaded distribution, instead of rows."""
    values: Sequence[Sequence[float]] | None
    """Rows sent as written-out numbers, instead of raw bytes."""
    shared_memory: SharedMemory | Slot | None
    """Rows in shared memory of the server's host, instead of rows in the message."""
    logprobs: Sequence[LogprobKind] | LogprobKind
    """Kinds of log-probabilities of the drawn ids to return."""
    top_n: int
    """For each of these kinds also the most likely n."""
    logprob_ids: Ids | None
    """For each of these kinds also those of these ids."""
    rank: bool
    """Return the rank of each sample."""
    entropy: Sequence[LogprobKind] | LogprobKind
    """Kinds of distribution whose entropies to return."""
    kept: bool
    """Return how many categories the filters kept, and their mass."""
    priority: int
    """Who goes first when not all can, -100 to 100. Default 0."""
    dtype: str | None
    """Convert the rows before sending: "f32", "f16", "bf16", "f64". None sends them as they are."""
