"""Where the numbers of a request come from: rows in the message, candidates, or an uploaded distribution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from samplerd_server.core.entity import Buffer, entity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.enums import Dtype, InputKind
    from samplerd_server.core.params import SamplingParams

__all__ = ["CandidateRow", "CandidateRows", "CdfIndex", "DenseRows", "IndexedDraw", "StoredRows"]


@entity
class DenseRows:
    """Rows of V numbers each, as bytes."""

    dtype: Dtype
    rows: int
    vocab_size: int
    data: Buffer
    """Exactly rows x vocab_size x itemsize bytes, little-endian, row-major."""
    address: int = 0
    """Address of `data`; 0 = not known yet."""

    @property
    def size_bytes(self) -> int:
        """Bytes held by these rows."""
        return len(self.data)

    def part(self, begin: int, end: int) -> DenseRows:
        """Rows [begin, end) of these, in place."""
        pitch = self.vocab_size * self.dtype.itemsize
        data = memoryview(self.data)[begin * pitch : end * pitch]
        return replace(self, rows=end - begin, data=data, address=self.address and self.address + begin * pitch)


@entity
class CandidateRow:
    """The most likely categories of one row."""

    ids: NDArray[np.int32]
    """int32[n], ascending, distinct, within [0, V)."""
    logits: NDArray[np.float32]
    """float32[n]."""
    rest_logsumexp: float
    """ln of the sum of exp(logit) over what was not sent; -inf = nothing."""


@entity
class CandidateRows:
    """Sparse rows."""

    vocab_size: int
    candidates: tuple[CandidateRow, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.candidates)

    @property
    def size_bytes(self) -> int:
        """Bytes held by these rows."""
        return 8 * sum(len(row.ids) for row in self.candidates)

    def part(self, begin: int, end: int) -> CandidateRows:
        """Rows [begin, end) of these."""
        return replace(self, candidates=self.candidates[begin:end])


class CdfIndex(Protocol):
    """The precomputed cumulative sums of uploaded rows, so that a draw does not read a whole row."""

    def draw(self, draws: IndexedDraw, samples: NDArray[np.int32]) -> None:
        """Draw with replacement into samples: int32[B * S], the same ids as a draw from the rows themselves."""
        ...


@entity
class IndexedDraw:
    """Draws from consecutive rows of one distribution, by its CDF index."""

    cdf_index: CdfIndex
    first: int
    """The first of the rows within the distribution."""
    seeds: NDArray[np.uint64]
    """uint64[B]: the key of each row."""
    indices: NDArray[np.uint32]
    """uint32[B]: the row index of each, in its noise."""
    draw_offset: int
    num_samples: int

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.seeds) * self.num_samples


@entity
class StoredRows:
    """Rows of an uploaded distribution, where they stay; they live for as long as anything refers to `data`."""

    name: str
    kind: InputKind
    dtype: Dtype
    rows: int
    vocab_size: int
    data: Buffer
    """Exactly rows x vocab_size x itemsize bytes, little-endian, row-major."""
    params: SamplingParams | None
    """The parameters that were fixed at the upload; None = they come with each request."""
    cdf_index: CdfIndex | None
    """For draws with replacement: at T = 1, or with the fixed parameters. None = there is none."""
    address: int
    """Address of `data`."""
    first: int = 0
    """The first of these rows within the distribution and its CDF index."""
    file: int = 0
    """Inode number of the file that holds them, which other processes may map too; 0 = memory of this process."""

    @property
    def size_bytes(self) -> int:
        """Bytes held by these rows."""
        return len(self.data)

    def part(self, begin: int, end: int) -> StoredRows:
        """Rows [begin, end) of these."""
        pitch = self.vocab_size * self.dtype.itemsize
        data = memoryview(self.data)[begin * pitch : end * pitch]
        address = self.address + begin * pitch
        return replace(self, rows=end - begin, data=data, address=address, first=self.first + begin)
