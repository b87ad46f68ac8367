"""Plain rows: their records, the two launches, and the answers.

Law: `kernels/plain.py`, to the bit. A row is plain if temperature is its only parameter, it is drawn with replacement,
and samples are all that it asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.enums import InputKind
from samplerd_server.sampling.cuda.measure import EACH, measure
from samplerd_server.sampling.cuda.pick import SPARE, pick
from samplerd_server.sampling.cuda.rows import PITCH, Field
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.exp2 import LOG2_E

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from samplerd_server.sampling.rows import RowResults

__all__ = ["Measured", "draw_plain", "is_plain", "make_records", "share_blocks", "share_draws"]

_DRAWS = 32
"""Fewest draws of a program of `pick` in a row that has so many."""
_PROGRAMS = 64
"""Most programs of `pick` for a row: each makes the row's cumulative sums for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the launches leave of each block, beside the answers: tests compare it, bit by bit."""

    first_block: NDArray[np.int64]
    """int64[B + 1]: where each row's blocks begin."""
    maxima: Tensor
    """float32[blocks]."""
    sums: Tensor
    """float64[blocks]."""
    ends: Tensor
    """float64: cumulative sums of the blocks of each program of `pick`."""
    ends_at: NDArray[np.int64]
    """int64[P]: where those of a program begin."""
    rows: NDArray[np.int64]
    """int64[P]: the row of each program."""


def is_plain(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], the kernels draw from: bool[B]."""
    plain: NDArray[np.bool_] = (rows["plain"] != 0) & (rows["output_flags"] == 0) & (rows["without"] == 0)
    return plain


def draw_plain(rows: NDArray[np.void], results: RowResults, launch: Callable[..., None]) -> Measured:
    """Draw from plain rows, ROW[B], and write their samples, statuses and details into `results` of B rows.

    launch takes a kernel, the number of its programs, and its arguments.
    """
    records, blocks = make_records(rows)
    first_block = records[:, Field.FIRST_BLOCK]
    measures, picks = share_blocks(blocks), share_draws(rows["num_samples"].astype(np.int64), blocks)
    total, shares = int(blocks.sum()), int(blocks[picks[:, 0]].sum())
    maxima, bits = torch.empty(total), torch.empty(total, dtype=torch.int32)
    sums = torch.empty(total, dtype=torch.float64)
    scales, ends = torch.empty(shares, dtype=torch.float64), torch.empty(shares, dtype=torch.float64)
    spare = torch.empty(len(picks) * SPARE, dtype=torch.float64)
    own = torch.from_numpy(records)
    launch(measure, len(measures), own, torch.from_numpy(measures), maxima, bits, sums)
    answers = (torch.from_numpy(part) for part in (results.samples, results.status, results.detail))
    launch(pick, len(picks), own, torch.from_numpy(picks), maxima, bits, sums, scales, ends, spare, *answers)
    return Measured(
        first_block=np.append(first_block, total),
        maxima=maxima,
        sums=sums,
        ends=ends,
        ends_at=picks[:, 3],
        rows=picks[:, 0],
    )


def make_records(rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write the records, int64[B, PITCH], and count the blocks of each row, int64[B]."""
    blocks = -(-rows["width"].astype(np.int64) // BLOCK)
    is_weights = rows["kind"] == InputKind.PROBABILITIES
    temperature = rows["temperature"]
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(temperature == 0, -1.0, LOG2_E / temperature)
    inverse = np.where(is_weights & (temperature == 1), 0.0, inverse)
    records = np.zeros((len(rows), PITCH), np.int64)
    records[:, Field.ADDRESS] = rows["data"].astype(np.uint64).view(np.int64)
    records[:, Field.WIDTH], records[:, Field.DTYPE] = rows["width"], rows["dtype"]
    records[:, Field.IS_WEIGHTS] = is_weights
    records[:, Field.INVERSE] = inverse.view(np.int64)
    records[:, Field.FIRST_BLOCK] = np.cumsum(blocks) - blocks
    records[:, Field.SEED] = rows["seed"].astype(np.uint64).view(np.int64)
    records[:, Field.DRAW_OFFSET] = rows["draw_offset"].astype(np.uint64).view(np.int64)
    records[:, Field.ROW_INDEX] = rows["row_index"]
    records[:, Field.SAMPLE_AT] = rows["sample_at"]
    return records, blocks


def share_blocks(blocks: NDArray[np.int64]) -> NDArray[np.int32]:
    """Share the blocks of rows out: int32[P, 2], row and first block."""
    programs = -(-blocks // EACH)
    row = np.repeat(np.arange(len(blocks)), programs)
    place = np.arange(len(row)) - np.repeat(np.cumsum(programs) - programs, programs)
    return np.stack([row, place * EACH], axis=1).astype(np.int32)


def share_draws(draws: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Share the draws of rows out: int64[P, 4], row, first draw, how many, and where its share of scratch begins."""
    each = np.maximum(_DRAWS, -(-draws // _PROGRAMS))
    programs = np.maximum(-(-draws // each), 1)
    row = np.repeat(np.arange(len(draws)), programs)
    first = (np.arange(len(row)) - np.repeat(np.cumsum(programs) - programs, programs)) * each[row]
    count = np.minimum(each[row], draws[row] - first)
    at = np.cumsum(blocks[row]) - blocks[row]
    return np.stack([row, first, count, at], axis=1).astype(np.int64)
