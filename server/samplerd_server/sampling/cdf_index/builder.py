"""From rows to their CDF indexes in two steps: how many bytes they need, then writing them where they stay.

Rule 1: an index holds offsets from the beginning of the memory that its rows lie in too, so that this memory can be a
file; whoever draws adds where it is mapped. Rule 2: one thread at a time builds, any may draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.rows import IndexedDraw
from samplerd_server.sampling.cdf_index.build import build_cdf_index, keep_row
from samplerd_server.sampling.cdf_index.draw import draw_indexed
from samplerd_server.sampling.cdf_index.layout import ADDRESSES, CDF_INDEX, group_count, guide_size
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.workspace import Workspace
from samplerd_server.sampling.parameters import has_random_filter
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["CdfIndexBuilder", "CdfIndexPlan", "NumbaCdfIndex"]

_ALIGNMENT = 64
"""Bytes: every part begins at a cache line."""


@dataclass(slots=True, kw_only=True)
class _FilteredRow:
    """A row after its filters."""

    width: int
    temperature: float
    is_weights: bool
    numbers: NDArray[np.float32] | None
    """float32[width]; None = the row's own numbers."""
    ids: NDArray[np.int32] | None
    """int32[width]; None = a number's place is its id."""

    def parts(self) -> dict[str, tuple[int, type[np.generic]]]:
        """Length and type of everything that is kept beside the row."""
        groups, blocks = group_count(self.width), -(-self.width // BLOCK)
        parts: dict[str, tuple[int, type[np.generic]]] = {
            "ends": (groups, np.float64),
            "guide": (guide_size(self.width) + 1, np.int32),
            "maxima": (blocks, np.float32),
            "scales": (blocks, np.float64),
        }
        if self.numbers is not None:
            parts["numbers"] = (self.width, np.float32)
        if self.ids is not None:
            parts["ids"] = (self.width, np.int32)
        return parts


class CdfIndexPlan:
    """The CDF indexes of the rows of one distribution, before they have a place in memory."""

    def __init__(self, kept: list[_FilteredRow], workspace: Workspace) -> None:
        self._kept = kept
        self._workspace = workspace
        self.size_bytes = _align(CDF_INDEX.itemsize * len(kept)) + sum(
            _align(length * np.dtype(kind).itemsize) for own in kept for length, kind in own.parts().values()
        )
        """Bytes that they need."""

    def write(self, memory: NDArray[np.uint8], at: int, rows_at: int, pitch: int, dtype: Dtype) -> None:
        """Build the indexes.

        Args:
            memory: where the rows and their indexes stay, uint8.
            at: offset of the indexes, a multiple of 64: size_bytes from there on are written.
            rows_at: offset of the rows.
            pitch: bytes of a row.
            dtype: how the rows are stored there; not F64.

        """
        records = memory[at : at + CDF_INDEX.itemsize * len(self._kept)].view(CDF_INDEX)
        base: int = memory.__array_interface__["data"][0]
        free = at + _align(CDF_INDEX.itemsize * len(self._kept))
        for row, own in enumerate(self._kept):
            record = records[row]
            parts: dict[str, NDArray[np.generic]] = {}
            for name, (length, kind) in own.parts().items():
                size = length * np.dtype(kind).itemsize
                parts[name] = memory[free : free + size].view(kind)
                record[name] = free
                free += _align(size)
            numbers_dtype = dtype
            if own.numbers is None:
                record["numbers"] = rows_at + row * pitch
            else:
                parts["numbers"][:] = own.numbers
                numbers_dtype = Dtype.F32
            if own.ids is not None:
                parts["ids"][:] = own.ids
            record["width"], record["guide_size"] = own.width, guide_size(own.width)
            record["dtype"], record["is_weights"] = numbers_dtype, own.is_weights
            record["total"], record["weigh"], record["beyond"] = build_cdf_index(
                base + int(record["numbers"]),
                int(numbers_dtype),
                own.width,
                own.is_weights,
                own.temperature,
                *(parts[name] for name in ("ends", "guide", "maxima", "scales")),
                self._workspace.space,
            )


class CdfIndexBuilder:
    """Builds CDF indexes with the compiled kernels."""

    __slots__ = ("_workspace",)

    def __init__(self) -> None:
        self._workspace = Workspace()

    @staticmethod
    def open(memory: NDArray[np.uint8], at: int, rows: int) -> NumbaCdfIndex:
        """Give what draws from the indexes that a plan has written at an offset of this memory."""
        return NumbaCdfIndex(memory, at, rows)

    def warm_up(self) -> None:
        """Load or compile the kernels, by building and using a small index of each sort."""
        row = np.zeros(8, np.float32)
        hot = HOT.pack(row.ctypes.data, 1, 0, 0, 1.0, 8, 8, 0, 1, 0, Dtype.F32, InputKind.LOGITS, 0, 1)
        rows = np.frombuffer(bytearray(hot + COLD_DEFAULT), ROW)
        plan = CdfIndexPlan([self._keep(rows, 0, 8)], self._workspace)
        memory = np.zeros(plan.size_bytes, np.uint8)
        plan.write(memory, 0, 0, 32, Dtype.F32)
        seeds, indices, index = np.ones(1, np.uint64), np.zeros(1, np.uint32), NumbaCdfIndex(memory, 0, 1)
        index.draw(
            IndexedDraw(cdf_index=index, first=0, seeds=seeds, indices=indices, draw_offset=0, num_samples=1),
            np.empty(1, np.int32),
        )

    def plan(self, batch: RowBatch, kind: InputKind, params: SamplingParams) -> CdfIndexPlan | None:
        """Plan the indexes of rows; None for rows that no index can stand for.

        Args:
            batch: the rows with `params`; each can be drawn from.
            kind: what their numbers mean.
            params: of all rows. An index is of one distribution: rows whose filters depend on noise (XTC) have none.

        """
        if has_random_filter(params):
            return None
        rows = batch.rows
        widest = int(rows["width"].max())
        if widest > self._workspace.width:
            self._workspace.grow(widest)
        is_weights = kind is InputKind.PROBABILITIES
        if params.is_plain and not params.is_greedy:
            width, temperature = widest, params.temperature
            own = _FilteredRow(width=width, temperature=temperature, is_weights=is_weights, numbers=None, ids=None)
            return CdfIndexPlan([own] * len(rows), self._workspace)
        return CdfIndexPlan([self._keep(rows, row, widest) for row in range(len(rows))], self._workspace)

    def _keep(self, rows: NDArray[np.void], row: int, width: int) -> _FilteredRow:
        numbers, ids = np.empty(width, np.float32), np.empty(width, np.int32)
        space = self._workspace
        count, temperature, is_weights, has_ids = keep_row(
            rows, row, numbers.ctypes.data, ids.ctypes.data, space.full(), space.space
        )
        assert count > 0, "an index was asked for of a row that cannot be drawn from. This is a bug."
        return _FilteredRow(
            width=count,
            temperature=temperature,
            is_weights=is_weights,
            numbers=numbers[:count].copy() if count < width else numbers,
            ids=None if not has_ids else ids[:count].copy(),
        )


class NumbaCdfIndex:
    """The CDF indexes of the rows of one distribution, where they stay: a `core.rows.CdfIndex`."""

    __slots__ = ("_memory", "_records")

    def __init__(self, memory: NDArray[np.uint8], at: int, rows: int) -> None:
        self._memory = memory  # keeps it alive
        self._records = memory[at : at + CDF_INDEX.itemsize * rows].view(CDF_INDEX).copy()
        base = np.uint64(memory.__array_interface__["data"][0])
        for name in ADDRESSES:
            offsets = self._records[name]
            offsets[offsets > 0] += base

    def draw(self, draws: IndexedDraw, samples: NDArray[np.int32]) -> None:
        """Draw with replacement; see the protocol. Any thread."""
        records = self._records[draws.first : draws.first + len(draws.seeds)]
        draw_indexed(records, draws.seeds, draws.indices, np.uint64(draws.draw_offset), draws.num_samples, samples)


def _align(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
