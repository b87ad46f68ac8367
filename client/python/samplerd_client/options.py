"""The keywords of `sample`: the same in a unary call, on a stream, in the synchronous client and in samplerctl."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_client.sampling_params import SamplingFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_client.arrays import ArrayLike
    from samplerd_client.params import Candidates, CudaSharedMemory, Ids, LogprobKind, SamplingParams, SharedMemory
    from samplerd_client.shared_memory import Slot

__all__ = ["SampleOptions", "SamplingFields"]


class SampleOptions(SamplingFields, total=False):
    """The keywords of `sample`: the fields of SamplingParams, and these."""

    params: SamplingParams | None
    """Parameters of all rows, in place of a keyword for each."""
    row_params: Sequence[SamplingParams] | None
    """Parameters of each row."""
    num_samples: int
    """Samples from each row, S. Default 1."""
    replacement: bool
    """Whether an id may be drawn twice from one row. Default True."""
    seed: int | None
    """Seed of the random numbers, 0 to 2^64 - 1. None: the server draws one, and returns it with the result."""
    row_seeds: Ids | None
    """A seed for each row. A row with its own seed draws the same in any request."""
    draw_offset: int
    """Index of the first draw, which continues a seeded sequence. Default 0."""
    probabilities: bool
    """The numbers are weights, not logits. Default False."""
    candidates: Candidates | None
    """Sparse rows, in place of an array."""
    distribution: str | None
    """Name of an uploaded distribution to draw from, in place of rows."""
    values: Sequence[Sequence[float]] | None
    """Rows sent as lists of numbers, in place of raw bytes: slower, and easier to read in a trace."""
    shared_memory: SharedMemory | CudaSharedMemory | Slot | None
    """Rows in shared memory on the server's host, in place of rows in the message."""
    guidance: ArrayLike | SharedMemory | CudaSharedMemory | Slot | None
    """Second rows for classifier-free guidance, each of which guides one row whose `guidance_scale` is not 1: in the
    shape of the rows, as an array or in shared memory."""
    logprobs: Sequence[LogprobKind] | LogprobKind
    """Return the log-probabilities of the drawn ids, of these kinds."""
    top_n: int
    """For each kind in `logprobs`, also return the n most likely ids with their log-probabilities."""
    logprob_ids: Ids | None
    """For each kind in `logprobs`, also return the log-probabilities of these ids."""
    rank: bool
    """Return the rank of each sample; 1 is the most likely."""
    entropy: Sequence[LogprobKind] | LogprobKind
    """Return the entropy of the distributions of these kinds."""
    kept: bool
    """Return how many categories the filters kept, and their mass."""
    adaptive_state: bool
    """Return the state of adaptive-p after each sample, for the sequence's next request."""
    priority: int
    """Requests of higher priority are served first when the server is overloaded, -100 to 100. Default 0."""
    dtype: str | None
    """Convert the rows, and the guidance rows, before sending: "f32", "f16", "bf16", "f64". None sends them as they
    are."""
