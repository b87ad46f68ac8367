"""Records of rows that lie side by side and share all but where: one record, repeated.

What differs from row to row grows by the same step, so a whole request is one addition: the record as 64-bit words,
plus a table of steps that depends on the shape alone and is kept. Event-loop thread.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.rows import ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["repeat"]

_WORD = 8
_WORDS = ROW.itemsize // _WORD
_FIELDS = ROW.fields
assert _FIELDS is not None, "a record has fields. This is a bug."
assert ROW.itemsize % _WORD == 0, "records are not whole words. This is a bug."
_DATA, _SEED, _SAMPLE_AT = (_FIELDS[name][1] // _WORD for name in ("data", "seed", "sample_at"))
_ROW_INDEX, _INDEX_SHIFT = divmod(_FIELDS["row_index"][1], _WORD)
_KEPT_SHAPES = 64
_KEPT_ROWS = 256
"""Shapes of so many rows are kept: at most 5 MiB in all."""


def repeat(record: bytes, rows: int, stride: int, num_samples: int, row_seeds: NDArray[np.uint64] | None) -> bytes:
    """Repeat a record for every row of a request.

    Args:
        record: of the first row: its row_index is 0, and its seed is too if the rows have their own.
        rows: B, how many.
        stride: bytes from a row's numbers to the next one's.
        num_samples: S, from a row's samples to the next one's.
        row_seeds: uint64[B], or None: then rows share the seed and count their row_index.

    Returns:
        ROW[B] as bytes.

    """
    steps = _kept_steps if rows <= _KEPT_ROWS else _steps
    words = np.frombuffer(record, np.uint64) + steps(rows, stride, num_samples, row_seeds is None)
    if row_seeds is not None:
        words[:, _SEED] = row_seeds
    return words.tobytes()


def _steps(rows: int, stride: int, num_samples: int, counts_rows: bool) -> NDArray[np.uint64]:  # noqa: FBT001  # a key of the cache
    """Give uint64[B, words]: what each row's words are more than the first row's."""
    steps = np.zeros((rows, _WORDS), np.uint64)
    index = np.arange(rows, dtype=np.uint64)
    steps[:, _DATA] = index * np.uint64(stride)
    steps[:, _SAMPLE_AT] = index * np.uint64(num_samples)
    if counts_rows:
        steps[:, _ROW_INDEX] = index << np.uint64(8 * _INDEX_SHIFT)
    return steps


_kept_steps = lru_cache(_KEPT_SHAPES)(_steps)
