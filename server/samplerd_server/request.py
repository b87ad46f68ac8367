"""What a request is, once it has been decoded: the entities that every layer below the transport speaks of.

Rule 1: these know neither grpc nor torch. Rule 2: everything that crosses a layer is frozen. Rule 3: values are already
checked and normalised; nobody downstream asks again whether a number is in range.

Letters, here and everywhere: B rows, V vocabulary, K kept, S draws per row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NO_OUTPUTS",
    "RNG",
    "Buffer",
    "CandidateRow",
    "CandidateRows",
    "DenseRows",
    "Dry",
    "Dtype",
    "InputKind",
    "LogprobKind",
    "LogprobValues",
    "Order",
    "Outputs",
    "RowError",
    "RowErrorReason",
    "SampleRequest",
    "SampleResult",
    "SamplingParams",
    "StoredRows",
    "Table",
    "TableDraw",
    "Timing",
    "VerifyRequest",
    "VerifyResult",
    "Wanted",
    "entity",
]

RNG = "philox4x32-10/1"
"""Name and version of the noise and of the law that turns it into ids (docs/sampling.md)."""

Buffer: TypeAlias = bytes | memoryview

_Entity = TypeVar("_Entity")
_Ids: TypeAlias = NDArray[np.int32]
_Floats: TypeAlias = NDArray[np.float32]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def entity(cls: type[_Entity]) -> type[_Entity]:
    """Make a dataclass that the type checker holds frozen.

    At run time it is a plain one: a frozen one sets each field through ``object.__setattr__``, and the entities on the
    path of every request have some forty fields, which took 3 us of it.
    """
    return dataclass(slots=True, kw_only=True)(cls)


class Dtype(IntEnum):
    """How numbers are stored; the numbers of the proto's enum."""

    F32 = 1
    F16 = 2
    BF16 = 3
    F64 = 4

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return _ITEMSIZE[self]


_ITEMSIZE = {Dtype.F32: 4, Dtype.F16: 2, Dtype.BF16: 2, Dtype.F64: 8}


class InputKind(IntEnum):
    """What the numbers of a row mean; the numbers of the proto's enum."""

    LOGITS = 1
    PROBABILITIES = 2


class Order(IntEnum):
    """Which system's order of filters; the numbers of the proto's enum."""

    HUGGING_FACE = 1
    VLLM = 2
    LLAMA_CPP = 3
    JOINT = 4


class LogprobKind(IntEnum):
    """Which distribution a log-probability is of; the numbers of the proto's enum."""

    RAW = 1
    SCALED = 2
    PROCESSED = 3


class RowErrorReason(IntEnum):
    """Why a row failed; the numbers of the proto's enum. 0 means that it did not."""

    NONE = 0
    NAN = 1
    POSITIVE_INFINITY = 2
    NEGATIVE_WEIGHT = 3
    NOTHING_TO_DRAW = 4
    TOO_FEW_TO_DRAW = 5
    OUTSIDE_CANDIDATES = 6


class Wanted(IntFlag):
    """What a request wants beside its samples, as the bits that kernels test."""

    RAW = 1 << 0
    SCALED = 1 << 1
    PROCESSED = 1 << 2
    RANK = 1 << 3
    KEPT = 1 << 4
    ENTROPY_RAW = 1 << 5
    ENTROPY_SCALED = 1 << 6
    ENTROPY_PROCESSED = 1 << 7


NOTHING = Wanted(0)
"""No output beside the samples."""


@entity
class Dry:
    """The DRY penalty over history."""

    multiplier: float = 0.0
    base: float = 1.75
    allowed_length: int = 2
    range: int = 0
    """How many of the last tokens of history are looked at; 0 = all."""
    sequence_breakers: _Ids | None = None


@entity
class SamplingParams:
    """How one row is drawn from. Defaults are 'off'; meanings and ranges are those of the proto."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    top_n_sigma: float = 0.0
    xtc_threshold: float = 0.0
    xtc_probability: float = 0.0
    dynamic_temperature_range: float = 0.0
    dynamic_temperature_exponent: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry: Dry | None = None
    history: _Ids | None = None
    bias_ids: _Ids | None = None
    bias_values: _Floats | None = None
    allowed_tokens: _Ids | None = None
    token_bitmask: Buffer | None = None
    """int32 words, little-endian."""
    min_tokens_to_keep: int = 1
    order: Order = Order.HUGGING_FACE

    is_plain: bool = True
    """Temperature is the only thing set: no filter, penalty, bias or mask. Decided once, at decode."""

    @property
    def is_greedy(self) -> bool:
        """T = 0: the row leaves the pipeline with its argmax."""
        return self.temperature == 0.0


@entity
class DenseRows:
    """Rows of V numbers each, as bytes."""

    dtype: Dtype
    rows: int
    vocab_size: int
    data: Buffer
    """Exactly rows x vocab_size x itemsize bytes, little-endian, row-major."""
    address: int = 0
    """Where `data` lies, if whoever made this knew; 0 = not said."""

    @property
    def size_bytes(self) -> int:
        """Memory that these rows take."""
        return len(self.data)


@entity
class CandidateRow:
    """The most likely categories of one row."""

    ids: _Ids
    """int32[n], ascending, distinct, within [0, V)."""
    logits: _Floats
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
        """Memory that these rows take."""
        return 8 * sum(len(row.ids) for row in self.candidates)


class Table(Protocol):
    """What was prepared of rows that stay, so that a draw does not read a row."""

    def draw(self, draws: TableDraw, samples: _Ids) -> None:
        """Draw with replacement what the draw from the rows themselves would give, into samples: int32[B * S]."""
        ...


@entity
class TableDraw:
    """Draws from consecutive rows of one table."""

    table: Table
    first: int
    """The first of the rows within the table."""
    seeds: NDArray[np.uint64]
    """uint64[B]: the key of each row."""
    indices: NDArray[np.uint32]
    """uint32[B]: the row index of each, in its noise."""
    draw_offset: int
    num_samples: int

    @property
    def samples(self) -> int:
        """How many are drawn."""
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
    """The parameters that are baked in; None = they come with each request."""
    table: Table | None
    """For draws with replacement: at T = 1, or with the parameters that are baked in. None = there is none."""
    address: int
    """Where `data` lies."""
    first: int = 0
    """The first of these rows within the distribution, and its table."""

    @property
    def size_bytes(self) -> int:
        """Memory that these rows take."""
        return len(self.data)

    def part(self, begin: int, end: int) -> StoredRows:
        """Rows [begin, end) of these."""
        pitch = self.vocab_size * self.dtype.itemsize
        data = memoryview(self.data)[begin * pitch : end * pitch]
        address = self.address + begin * pitch
        return replace(self, rows=end - begin, data=data, address=address, first=self.first + begin)


@entity
class Outputs:
    """What to return beside the samples."""

    raw_samples: bool = False
    logprobs: tuple[LogprobKind, ...] = ()
    """Distinct, ascending."""
    top_n: int = 0
    logprob_ids: _Ids | None = None
    rank: bool = False
    entropy: tuple[LogprobKind, ...] = ()
    """Distinct, ascending."""
    kept: bool = False

    wanted: Wanted = NOTHING
    """The same as bits. Decided once, at decode."""


NO_OUTPUTS = Outputs()
"""What a request that does not speak of outputs has: this very object."""


@entity
class SampleRequest:
    """One request, checked."""

    id: int
    source: DenseRows | CandidateRows | StoredRows
    params: tuple[SamplingParams, ...]
    """One for all rows, or one per row."""
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
    """What it takes to compute, in bytes of plain rows: what predictions of time are based on. Set at decode."""
    load: Callable[[], None] | None = None
    """Copies the numbers of the rows into their memory, once the request is admitted; None = they are there."""
    table: Table | None = None
    """Draw from this rather than from the rows of the source, which is a StoredRows. Set at decode."""
    first_row: int = 0
    """Row index of the first row, where this is a part of a request."""
    is_divisible: bool = False
    """Any part of its draws may be drawn by itself, and no row can fail. Set at decode, of distributions."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.source.rows

    @property
    def size_bytes(self) -> int:
        """What the request counts against the queue's bytes: rows that are read."""
        return self.source.size_bytes if self.table is None else 0

    @property
    def samples(self) -> int:
        """Samples that it is answered with: what it counts against a batch's."""
        return self.source.rows * self.num_samples


@entity
class RowError:
    """A row that failed alone."""

    row: int
    reason: RowErrorReason
    message: str


@entity
class LogprobValues:
    """Log-probabilities of one kind; see the proto's Logprobs."""

    kind: LogprobKind
    samples: _Floats
    """float32[B * S]."""
    top_ids: _Ids | None
    """int32[B * top_n]."""
    top: _Floats | None
    """float32[B * top_n]."""
    named: _Floats | None
    """float32[B * ids]."""


class Timing(NamedTuple):
    """Where the time of a request went, in seconds."""

    queue_s: float
    compute_s: float
    batch_rows: int


@entity
class SampleResult:
    """The answer to one request."""

    samples: _Ids
    """int32[B * S]; -1 for failed rows."""
    row_errors: tuple[RowError, ...]
    timing: Timing
    logprobs: tuple[LogprobValues, ...] = ()
    ranks: _Ids | None = None
    """int32[B * S]; 0 for failed rows."""
    entropies: tuple[tuple[LogprobKind, _Floats], ...] = ()
    kept_count: _Ids | None = None
    kept_mass: _Floats | None = None


@entity
class VerifyRequest:
    """The drafted tokens of one sequence, to be accepted or corrected."""

    id: int
    target: SampleRequest
    """The n + 1 rows of the target model, one sample each."""
    draft_ids: _Ids
    """int32[n], within [0, V)."""
    draft: DenseRows | None
    """n rows of weights that they were drawn from; None = each was certain."""
    priority: int = 0

    @property
    def rows(self) -> int:
        """Rows of the target model."""
        return self.target.rows

    @property
    def size_bytes(self) -> int:
        """What the request counts against the queue's bytes."""
        return self.target.size_bytes + (self.draft.size_bytes if self.draft else 0)

    @property
    def samples(self) -> int:
        """Samples that are drawn: one."""
        return 1

    @property
    def table(self) -> None:
        """None: drafts are verified against rows."""
        return

    @property
    def work(self) -> int:
        """What it takes to compute, in bytes of plain rows."""
        return self.target.work + (self.draft.size_bytes if self.draft else 0)

    @property
    def greedy_rows(self) -> int:
        """Rows with T = 0."""
        return self.target.greedy_rows


@entity
class VerifyResult:
    """What became of a draft."""

    samples: tuple[int, ...]
    """The accepted tokens and, unless a row failed, one more."""
    accepted: int
    row_errors: tuple[RowError, ...]
    timing: Timing
