"""Rows with top_k, and with top_p and min_p after it: what is kept is gathered, and drawn from as a plain row.

Law: `kernels/steps.py`, to the bit. Five launches: `measure`, `keep`, `measure` and `pick` of what is kept, `name`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.keep import MOST, keep, name
from samplerd_server.sampling.cuda.measure import measure
from samplerd_server.sampling.cuda.pick import SPARE, pick
from samplerd_server.sampling.cuda.plain import make_records, share_blocks, share_draws
from samplerd_server.sampling.cuda.rows import PITCH, Field
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.masses import shift_of
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.sampling.rows import RowResults

__all__ = ["draw_filtered", "is_filtered"]

_BLOCKS = MOST // BLOCK
_DEFAULT = np.frombuffer(bytes(HOT.size) + COLD_DEFAULT, ROW)[0]
_NAMES = ROW.names or ()
_OTHERS = sorted(set(_NAMES[_NAMES.index("plain") + 1 :]) - {"top_k", "top_p", "min_p"})
"""The fields of parameters and outputs, those aside that these kernels know."""


def is_filtered(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], these kernels draw from: bool[B].

    They have a top_k of at most `MOST`, and nothing else but a top_p, a min_p and a temperature above 0; they ask for
    samples alone, with replacement.
    """
    own: NDArray[np.bool_] = (rows["output_flags"] == 0) & (rows["without"] == 0) & (rows["temperature"] > 0)
    own &= (rows["top_k"] > 0) & (rows["top_k"] <= MOST)
    for field in _OTHERS:
        own &= rows[field] == _DEFAULT[field]
    return own


def draw_filtered(rows: NDArray[np.void], results: RowResults, launch: Callable[..., None]) -> NDArray[np.int64]:
    """Draw from such rows, ROW[B], and write their samples, statuses and details into `results` of B rows.

    launch: see `plain.draw_plain`. Returns how many numbers were kept of each row, int64[B].
    """
    records, blocks = make_records(rows)
    records[:, Field.TOP_K] = rows["top_k"]
    for field, parameter in ((Field.TOP_P, "top_p"), (Field.MIN_P, "min_p"), (Field.TEMPERATURE, "temperature")):
        records[:, field] = rows[parameter].astype(np.float64).view(np.int64)
    records[:, Field.SHIFT] = [shift_of(vocab_size) for vocab_size in rows["vocab_size"].tolist()]
    count = len(rows)
    numbers, positions = torch.empty(count * MOST), torch.empty(count * MOST, dtype=torch.int32)
    masses = torch.empty(count * MOST, dtype=torch.int64)
    kept = records.copy()
    at = np.arange(count)
    kept[:, Field.ADDRESS] = numbers.data_ptr() + 4 * MOST * at
    kept[:, Field.DTYPE], kept[:, Field.FIRST_BLOCK] = Dtype.F32, _BLOCKS * at
    own, own_kept = torch.from_numpy(records), torch.from_numpy(kept)
    reasons, details = torch.empty(count, dtype=torch.int32), torch.empty(count, dtype=torch.int64)
    maxima, bits, sums = _blocks(int(blocks.sum()))
    few = np.full(count, _BLOCKS, np.int64)
    measures, kept_measures = share_blocks(blocks), torch.from_numpy(share_blocks(few))
    picks = share_draws(rows["num_samples"].astype(np.int64), few)
    tasks, shares = torch.from_numpy(picks), len(picks) * _BLOCKS
    scales, ends = torch.empty(shares, dtype=torch.float64), torch.empty(shares, dtype=torch.float64)
    spare = torch.empty(len(picks) * SPARE, dtype=torch.float64)
    answers = [torch.from_numpy(part) for part in (results.samples, results.status, results.detail)]
    launch(measure, len(measures), own, torch.from_numpy(measures), maxima, bits, sums)
    launch(keep, count, own, maxima, bits, numbers, positions, masses, own_kept, reasons, details)
    of_kept = _blocks(count * _BLOCKS)
    launch(measure, len(kept_measures), own_kept, kept_measures, *of_kept)
    launch(pick, len(picks), own_kept, tasks, *of_kept, scales, ends, spare, *answers)
    launch(name, len(picks), own_kept, tasks, positions, reasons, details, *answers)
    widths: NDArray[np.int64] = own_kept.numpy().reshape(count, PITCH)[:, Field.WIDTH].copy()
    return widths


def _blocks(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make room for the maxima, the bits and the sums of blocks."""
    return torch.empty(count), torch.empty(count, dtype=torch.int32), torch.empty(count, dtype=torch.float64)
