"""Parts of batches: some of the rows as a batch of their own, and their results put among those of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling.rows import RowBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.sampling.rows import RowResults

__all__ = ["part_of", "put_results"]

_BY_ROW = ("status", "detail", "entropy", "kept_count", "kept_mass")
_BY_SAMPLE = ("samples", "logprobs", "ranks", "unshaped")
_BY_TOP = ("top_ids", "top_logprobs")
_RANGES = (("sample_at", "num_samples"), ("top_at", "top_n"), ("named_at", "named_len"))
"""Where the flat outputs of a row begin, and how many they are."""


def part_of(batch: RowBatch, places: NDArray[np.int64]) -> RowBatch:
    """Make a batch of some rows, int64[N] places, whose flat outputs are those of these rows alone."""
    if len(places) == len(batch):
        return batch
    rows, sizes = batch.rows[places], []
    for begin, count in _RANGES:
        lengths = rows[count].astype(np.int64)
        rows[begin] = np.cumsum(lengths) - lengths
        sizes.append(int(lengths.sum()))
    return RowBatch(
        rows=rows,
        samples=sizes[0],
        top=sizes[1],
        named=sizes[2],
        output_flags=batch.output_flags,
        keepalive=batch.keepalive,
    )


def put_results(results: RowResults, batch: RowBatch, part: RowResults, places: NDArray[np.int64]) -> None:
    """Put the results of the part of a batch that `part_of` gives for these places among those of all rows."""
    of_all, own = batch.rows[places], part_of(batch, places).rows
    samples, top, named = ((_list(of_all, *names), _list(own, *names)) for names in _RANGES)
    for names, (to, at) in (
        (_BY_ROW, (places, slice(None))),
        (_BY_SAMPLE, samples),
        (_BY_TOP, top),
        (("named",), named),
    ):
        for name in names:
            _put(getattr(results, name), getattr(part, name), to, at)


def _put(of_all: Any, own: Any, to: Any, at: Any) -> None:
    if isinstance(of_all, dict):
        for kind, values in of_all.items():
            values[to] = own[kind][at]
    elif of_all is not None:
        of_all[to] = own[at]


def _list(rows: NDArray[np.void], begin: str, count: str) -> NDArray[np.int64]:
    """List the places of the ranges of some rows: begin, begin + 1, ... of each."""
    lengths = rows[count].astype(np.int64)
    first = rows[begin] - (np.cumsum(lengths) - lengths)
    own: NDArray[np.int64] = np.repeat(first, lengths) + np.arange(int(lengths.sum()))
    return own
