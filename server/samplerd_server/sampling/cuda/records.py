"""What the launches are given: records of distributions that are measured or drawn from, and shares of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import InputKind
from samplerd_server.sampling.cuda.measure import EACH
from samplerd_server.sampling.cuda.rows import PITCH, Field
from samplerd_server.sampling.cuda.tree_memory import tree_words
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.exp2 import LOG2_E
from samplerd_server.sampling.masses import shift_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["blocks_of", "make_records", "place_blocks", "place_trees", "set_temperature", "share_blocks", "share_draws"]

_DRAWS = 32
"""Fewest draws of a program of `pick` in a row that has so many."""
_PROGRAMS = 64
"""Most programs of `pick` for a row: each makes the row's cumulative sums for itself."""
_SINGLES = {
    Field.WIDTH: "width",
    Field.DTYPE: "dtype",
    Field.ROW_INDEX: "row_index",
    Field.SAMPLE_AT: "sample_at",
    Field.TOP_K: "top_k",
    Field.FLAGS: "output_flags",
    Field.TOP_N: "top_n",
    Field.TOP_AT: "top_at",
    Field.NAMED_LEN: "named_len",
    Field.NAMED_AT: "named_at",
}
_UNSIGNED = {
    Field.ADDRESS: "data",
    Field.SEED: "seed",
    Field.DRAW_OFFSET: "draw_offset",
    Field.NAMED: "named",
    Field.IDS: "candidate_ids",
}
_DOUBLES = {Field.TOP_P: "top_p", Field.MIN_P: "min_p"}


def make_records(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Write a record for each of rows, ROW[B], as it was sent: int64[B, PITCH]."""
    records = np.zeros((len(rows), PITCH), np.int64)
    for place, name in _SINGLES.items():
        records[:, place] = rows[name]
    for place, name in _UNSIGNED.items():
        records[:, place] = rows[name].astype(np.uint64).view(np.int64)
    for place, name in _DOUBLES.items():
        records[:, place] = rows[name].astype(np.float64).view(np.int64)
    records[:, Field.IS_WEIGHTS] = rows["kind"] == InputKind.PROBABILITIES
    records[:, Field.SHIFT] = [shift_of(vocab_size) for vocab_size in rows["vocab_size"].tolist()]
    records[:, Field.ROW] = records[:, Field.FINAL] = np.arange(len(rows))
    records[:, [Field.RAW, Field.SCALED, Field.LIST_AT, Field.TREE_AT]] = -1
    set_temperature(records, rows["temperature"])
    return records


def set_temperature(records: NDArray[np.int64], temperature: NDArray[np.float64]) -> None:
    """Give the distributions of records: int64[R, PITCH] their temperatures: float64[R]."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(temperature == 0, -1.0, LOG2_E / temperature)
    inverse = np.where((records[:, Field.IS_WEIGHTS] != 0) & (temperature == 1), 0.0, inverse)
    records[:, Field.INVERSE] = inverse.view(np.int64)
    records[:, Field.TEMPERATURE] = np.ascontiguousarray(temperature, np.float64).view(np.int64)


def blocks_of(records: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the blocks of each record: int64[R]."""
    blocks: NDArray[np.int64] = -(-records[:, Field.WIDTH] // BLOCK)
    return blocks


def place_blocks(records: NDArray[np.int64]) -> int:
    """Say of each record where its blocks begin among those of all. Returns how many there are."""
    blocks = blocks_of(records)
    records[:, Field.FIRST_BLOCK] = np.cumsum(blocks) - blocks
    return int(blocks.sum())


def share_blocks(records: NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.int32]:
    """Share the blocks of some records, int64[N], out: int32[P, 2], record and first block."""
    programs = -(-blocks_of(records[some]) // EACH)
    own = np.repeat(some, programs)
    place = np.arange(len(own)) - np.repeat(np.cumsum(programs) - programs, programs)
    return np.stack([own, place * EACH], axis=1).astype(np.int32)


def share_draws(
    draws: NDArray[np.int64], final: NDArray[np.int64], blocks: NDArray[np.int64], without: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """Share draws of rows: int64[B] out.

    Args: final, int64[B], the record that each row is drawn from; blocks, int64[B], the most blocks of any of its
    distributions; without, bool[B], whose draws follow each other, so that one program makes all. Returns int64[P, 4],
    record, first draw, how many, and where its share of scratch begins, and how much scratch there is.
    """
    each = np.where(without, np.maximum(draws, 1), np.maximum(_DRAWS, -(-draws // _PROGRAMS)))
    programs = np.maximum(-(-draws // each), 1)
    row = np.repeat(np.arange(len(draws)), programs)
    first = (np.arange(len(row)) - np.repeat(np.cumsum(programs) - programs, programs)) * each[row]
    count = np.minimum(each[row], draws[row] - first)
    at = np.cumsum(blocks[row]) - blocks[row]
    return np.stack([final[row], first, count, at], axis=1).astype(np.int64), int(blocks[row].sum())


def place_trees(records: NDArray[np.int64], some: NDArray[np.int64], blocks: NDArray[np.int64]) -> int:
    """Say where the trees of some records, int64[N], begin, each of so many blocks. Returns how many words they are."""
    words = np.array([tree_words(own) for own in blocks.tolist()], np.int64)
    records[some, Field.TREE_AT] = np.cumsum(words) - words
    return int(words.sum())
