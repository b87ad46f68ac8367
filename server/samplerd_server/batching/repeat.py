"""The records of consecutive rows with the same parameters: the first row's record, repeated with other addresses.

The fields that differ from row to row grow by a constant step, so the records of a whole request are one addition: the
first record as 64-bit words, plus an array of steps that depends on the shape alone and is cached. Event loop.
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
_CACHED_SHAPES = 64
_CACHED_ROWS = 256
"""Steps of requests up to this size are cached: at most 5 MiB in all."""


def repeat(record: bytes, rows: int, stride: int, num_samples: int, row_seeds: NDArray[np.uint64] | None) -> bytes:
    """Repeat a record for every row of a request.

    Args:
        record: the first row's record. Its seed and row_index are 0 if row_seeds is given.
        rows: B, the number of rows.
        stride: bytes from the numbers of a row to those of the next one.
        num_samples: S, the step from the samples of a row to those of the next one.
        row_seeds: uint64[B], or None: then all rows have the record's seed, and row_index counts up.

    Returns:
        ROW[B] as bytes.

    """
    steps = _cached_steps if rows <= _CACHED_ROWS else _steps
    words = np.frombuffer(record, np.uint64) + steps(rows, stride, num_samples, row_seeds is None)
    if row_seeds is not None:
        words[:, _SEED] = row_seeds
    return words.tobytes()


def _steps(rows: int, stride: int, num_samples: int, counts_rows: bool) -> NDArray[np.uint64]:  # noqa: FBT001  # a key of the cache
    """Give uint64[B, words]: the difference of each row's words to those of the first row."""
    steps = np.zeros((rows, _WORDS), np.uint64)
    index = np.arange(rows, dtype=np.uint64)
    steps[:, _DATA] = index * np.uint64(stride)
    steps[:, _SAMPLE_AT] = index * np.uint64(num_samples)
    if counts_rows:
        steps[:, _ROW_INDEX] = index << np.uint64(8 * _INDEX_SHIFT)
    return steps


_cached_steps = lru_cache(_CACHED_SHAPES)(_steps)
