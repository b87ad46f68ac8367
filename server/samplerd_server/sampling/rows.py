"""The rows of a batch, as every sampler takes them and answers them: structs of arrays, no objects.

A batch holds rows of different callers, vocabulary sizes, dtypes and parameters. Each row is one record of `ROW`: where
its numbers lie, how many, and what to do with them. A row's result depends on its record and its numbers alone.

Rule 1: addresses in a record point into memory that `RowBatch.keepalive` owns; they were checked for length when the
request was decoded. Rule 2: `ROW` is packed in two parts. The hot part is different in every row; the cold part is
`COLD_DEFAULT`, byte for byte, in every row whose parameters are plain. Rule 3: no torch here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from samplerd_server.core.entity import entity
from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.outputs import NOTHING, OutputFlags
from samplerd_server.sampling.parameters.record import LIST_FIELDS, NUMBER_FIELDS, RecordField

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows

__all__ = [
    "COLD",
    "COLD_DEFAULT",
    "HOT",
    "LOST_ROW",
    "NO_LISTS",
    "ROW",
    "DraftBatch",
    "DraftSequence",
    "DraftVerdict",
    "RowBatch",
    "RowResults",
    "allocate_results",
    "clear_row",
    "new_results",
]


_HOT_FIELDS: list[tuple[str, str]] = [
    ("data", "u8"),  # address of the row's numbers; with candidates, of their float32 logits
    ("seed", "u8"),  # Philox key
    ("draw_offset", "u8"),  # index of the first draw
    ("sample_at", "i8"),  # where the row's samples begin in the flat outputs
    ("temperature", "f8"),
    ("width", "i4"),  # numbers at `data`: V, or the number of candidates
    ("vocab_size", "i4"),  # V
    ("row_index", "u4"),  # Philox counter word 2
    ("num_samples", "i4"),  # S
    ("output_flags", "u4"),  # outputs.OutputFlags
    ("dtype", "u1"),  # enums.Dtype
    ("kind", "u1"),  # enums.InputKind
    ("without", "u1"),  # 1 = without replacement
    ("plain", "u1"),  # 1 = the cold part is COLD_DEFAULT
]
_OUTPUT_FIELDS = (
    RecordField("candidate_ids", "u8", 0),  # address of int32[width]; 0 = a dense row
    RecordField("guidance", "u8", 0),  # address of the guidance row's numbers, as many as at `data`; 0 = not guided
    RecordField("named", "u8", 0),  # address of int32[named_len]
    RecordField("drawn", "i8", 0),  # draws of this row that were made in earlier parts; draw_offset counts them already
    RecordField("top_at", "i8", 0),  # where the row's top-n begins in the flat top outputs
    RecordField("named_at", "i8", 0),  # where the row's named ids begin in the flat named outputs
    RecordField("rest_logsumexp", "f8", float("-inf")),  # candidates: ln of the mass that was not sent
    RecordField("named_len", "i4", 0),
    RecordField("top_n", "i4", 0),
    RecordField("guidance_dtype", "i4", 0),  # enums.Dtype of the guidance row
)
_COLD_FIELDS = (*_OUTPUT_FIELDS, *NUMBER_FIELDS, *LIST_FIELDS)
_STRUCT_CODE = {"u8": "Q", "i8": "q", "f8": "d", "u4": "I", "i4": "i", "u1": "B"}

ROW = np.dtype([*_HOT_FIELDS, *((name, code) for name, code, _ in _COLD_FIELDS)], align=True)
"""One row of a batch. Fields lie as in C, with padding; so do those that the two structs pack."""
HOT = struct.Struct("@" + "".join(_STRUCT_CODE[code] for _, code in _HOT_FIELDS))
"""Packs the first fields of `ROW`, in order."""
COLD = struct.Struct("@" + "".join(_STRUCT_CODE[code] for _, code, _ in _COLD_FIELDS) + "0Q")
"""Packs the other fields of `ROW`, in order: what the row is and asks for beside samples, `NUMBER_FIELDS`,
`LIST_FIELDS`."""
COLD_DEFAULT = COLD.pack(*(default if code == "f8" else int(default) for _, code, default in _COLD_FIELDS))
"""The cold part of a row whose parameters are plain."""
LOST_ROW = -1
"""The status of a row that lay on a card that was lost, and nowhere else: its request fails, and can be sent again."""
NO_LISTS = tuple(int(own.default) for own in LIST_FIELDS)
"""The values of `LIST_FIELDS` in a row without lists."""

assert HOT.size + COLD.size == ROW.itemsize, "the structs and the record differ. This is a bug."

_T = TypeVar("_T", np.int32, np.float32, np.float64)
_LOGPROBS = {kind: int(OutputFlags.RAW) << (kind - 1) for kind in LogprobKind}
_ENTROPIES = {kind: int(OutputFlags.ENTROPY_RAW) << (kind - 1) for kind in LogprobKind}
_RANK, _KEPT, _ADAPTIVE = int(OutputFlags.RANK), int(OutputFlags.KEPT), int(OutputFlags.ADAPTIVE)


@entity
class RowBatch:
    """Rows to draw from, with the sizes of the outputs they ask for."""

    rows: NDArray[np.void]
    """ROW[B]."""
    samples: int
    """Length of the flat outputs per sample: the sum of num_samples."""
    top: int = 0
    """Length of the flat top-n outputs."""
    named: int = 0
    """Length of the flat named-id outputs."""
    work: int = 0
    """Price of the rows in nanoseconds (`price.py`), which a sampler may use; 0 = not known."""
    output_flags: OutputFlags = NOTHING
    """The outputs that any row asks for; others are not allocated."""
    keepalive: object = None
    """Owns the memory that the records point to."""

    def __len__(self) -> int:
        """B."""
        return len(self.rows)


@dataclass(slots=True, kw_only=True)
class RowResults:
    """The outcome of each row. Arrays that no row asked for are None (or missing, in the dicts).

    Not frozen, though no field is assigned to: a frozen dataclass sets each through object.__setattr__, which for one
    row of 1,024 numbers takes longer than the draw.
    """

    samples: NDArray[np.int32]
    """int32[samples], at each row's `sample_at`; -1 for failed rows."""
    status: NDArray[np.int32]
    """int32[B]: enums.RowErrorReason, 0 = drawn; or `LOST_ROW`."""
    detail: NDArray[np.int64]
    """int64[B]: for NAN, POSITIVE_INFINITY and NEGATIVE_WEIGHT the first id in error, or -1 - id where the guidance row
    is in error; for NOTHING_TO_DRAW the Step that left nothing; for TOO_FEW_TO_DRAW the number of categories with
    positive probability."""
    logprobs: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """float32[samples] of each kind asked for; NaN for failed rows."""
    top_ids: dict[LogprobKind, NDArray[np.int32]] = field(default_factory=dict)
    """int32[top] of each kind asked for; -1 beyond a row's end."""
    top_logprobs: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """float32[top] of each kind asked for."""
    named: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """float32[named] of each kind asked for."""
    entropy: dict[LogprobKind, NDArray[np.float32]] = field(default_factory=dict)
    """float32[B] of each kind asked for, in nats."""
    ranks: NDArray[np.int32] | None = None
    """int32[samples], 1-based."""
    kept_count: NDArray[np.int32] | None = None
    """int32[B]."""
    kept_mass: NDArray[np.float32] | None = None
    """float32[B]."""
    unshaped: NDArray[np.float64] | None = None
    """float64[samples]: of rows with adaptive-p the probability of each sample before it, among what the filters kept,
    1 at a temperature of 0; NaN for other rows."""


def new_results(batch: RowBatch) -> RowResults:
    """Allocate the outputs of a batch, filled with what a failed row answers."""
    return allocate_results(len(batch), batch.samples, batch.top, batch.named, int(batch.output_flags))


def allocate_results(rows: int, samples: int, top: int, named: int, flags: int) -> RowResults:
    """Allocate outputs, filled with what a failed row answers.

    Args:
        rows: B.
        samples: length of the flat outputs per sample.
        top: length of the flat top-n outputs.
        named: length of the flat named-id outputs.
        flags: `OutputFlags` as an integer: operators of an IntFlag take as long as the draw of a small row.

    """
    results = RowResults(
        samples=_filled(samples, -1, np.int32),
        status=np.zeros(rows, np.int32),
        detail=np.zeros(rows, np.int64),
    )
    if not flags:
        return results
    for kind in LogprobKind:
        if flags & _LOGPROBS[kind]:
            results.logprobs[kind] = _filled(samples, np.nan, np.float32)
            if top:
                results.top_ids[kind] = _filled(top, -1, np.int32)
                results.top_logprobs[kind] = _filled(top, np.nan, np.float32)
            if named:
                results.named[kind] = _filled(named, np.nan, np.float32)
        if flags & _ENTROPIES[kind]:
            results.entropy[kind] = _filled(rows, np.nan, np.float32)
    if flags & _RANK:
        results.ranks = np.zeros(samples, np.int32)
    if flags & _KEPT:
        results.kept_count = np.zeros(rows, np.int32)
        results.kept_mass = _filled(rows, np.nan, np.float32)
    if flags & _ADAPTIVE:
        results.unshaped = _filled(samples, np.nan, np.float64)
    return results


def clear_row(results: RowResults, row: int, draws: int, top_n: int, named: int) -> None:
    """Fill the outputs of one row with what a failed row answers; `results` are of rows that are all alike."""
    samples, top = slice(row * draws, (row + 1) * draws), slice(row * top_n, (row + 1) * top_n)
    results.samples[samples] = -1
    for values in results.logprobs.values():
        values[samples] = np.nan
    for ids in results.top_ids.values():
        ids[top] = -1
    for values in results.top_logprobs.values():
        values[top] = np.nan
    for values in results.named.values():
        values[row * named : (row + 1) * named] = np.nan
    for values in results.entropy.values():
        values[row] = np.nan
    if results.ranks is not None:
        results.ranks[samples] = 0
    if results.kept_count is not None and results.kept_mass is not None:
        results.kept_count[row], results.kept_mass[row] = 0, np.nan
    if results.unshaped is not None:
        results.unshaped[samples] = np.nan


def _filled(size: int, value: float, dtype: type[_T]) -> NDArray[_T]:
    """Do what `np.full` does, in a third of its time for a small array."""
    array = np.empty(size, dtype)
    array.fill(value)
    return array


@entity
class DraftSequence:
    """The drafted tokens of one sequence, with the rows they are judged by."""

    target: RowBatch
    """The n + 1 rows of the target model: after the sequence, then after each drafted token."""
    draft_ids: NDArray[np.int32]
    """int32[n], within [0, V)."""
    parents: NDArray[np.int32]
    """int32[n]: the index of the drafted token that each follows, below its own; -1 = the sequence."""
    draft: DenseRows | None
    """n rows of weights that the draft was drawn from; None = each token was certain."""


@entity
class DraftBatch:
    """Sequences to verify."""

    sequences: tuple[DraftSequence, ...]

    @property
    def samples(self) -> int:
        """Number of tokens drawn: one for each sequence."""
        return len(self.sequences)

    def __len__(self) -> int:
        """Count the rows of the target model, in all sequences."""
        return sum(len(sequence.target) for sequence in self.sequences)


@entity
class DraftVerdict:
    """What was accepted of a draft."""

    samples: tuple[int, ...]
    """The accepted tokens and, unless a row failed, one more."""
    path: tuple[int, ...]
    """Indices of the accepted tokens in the draft, from the first on: each is the parent of the next."""
    failed_row: int = -1
    """The target row that verification stopped at; -1 = none."""
    failed_draft: int = -1
    """The draft's row whose numbers are at fault; -1 = those of the target row are, or none."""
    reason: RowErrorReason = RowErrorReason.NONE
    detail: int = 0
    """See RowResults.detail."""
