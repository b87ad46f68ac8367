"""What a result keeps in memory while its reply waits."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import fields, is_dataclass

import numpy as np

from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.result import LogprobValues, RowError, SampleResult, Timing

ROWS, DRAWS = 3, 50


class Batch(np.ndarray):
    """The array of a batch, which can be watched."""


def part(count: int, dtype: type, batches: list) -> np.ndarray:
    """Give a part of the array of a large batch."""
    batch = np.zeros(100_000, dtype).view(Batch)
    batches.append(weakref.ref(batch))
    return batch[7 : 7 + count]


def drawn(batches: list) -> SampleResult:
    """Give a result with everything that there may be."""
    samples = ROWS * DRAWS
    return SampleResult(
        samples=part(samples, np.int32, batches),
        row_errors=tuple(
            RowError(row=row, reason=RowErrorReason.NAN, message=f"NaN at id {row}" * 10) for row in range(ROWS)
        ),
        timing=Timing(queue_s=1.0, compute_s=2.0, batch_rows=3),
        logprobs=(
            LogprobValues(
                kind=LogprobKind.RAW,
                samples=part(samples, np.float32, batches),
                top_ids=part(5 * ROWS, np.int32, batches),
                top=part(5 * ROWS, np.float32, batches),
                named=part(2 * ROWS, np.float32, batches),
            ),
        ),
        ranks=part(samples, np.int32, batches),
        entropies=((LogprobKind.RAW, part(ROWS, np.float32, batches)),),
        kept_count=part(ROWS, np.int32, batches),
        kept_mass=part(ROWS, np.float32, batches),
        adaptive_weighted_sum=part(samples, np.float64, batches),
        adaptive_total_weight=part(samples, np.float64, batches),
    )


def sizes(value: object) -> list[int]:
    """List the bytes of all arrays, and of what Python keeps for errors."""
    if isinstance(value, np.ndarray):
        return [value.nbytes]
    if isinstance(value, RowError):
        return [sys.getsizeof(value), sys.getsizeof(value.message), 8]
    if isinstance(value, tuple):
        return [size for own in value for size in sizes(own)]
    return [size for own in fields(value) for size in sizes(getattr(value, own.name))] if is_dataclass(value) else []


def test_every_array_and_error_of_a_result_counts():
    result = drawn([])
    held = sum(sizes(result))
    assert held <= result.held_bytes <= held + ROWS * 192
    assert result.per_sample_bytes == ROWS * DRAWS * (4 + 4 + 4 + 8 + 8)


def test_a_detached_result_is_equal_and_keeps_no_array_of_its_batch():
    batches: list = []
    result = drawn(batches)
    detached = result.detached()
    assert all(own() is not None for own in batches)
    assert np.array_equal(detached.samples, result.samples)
    assert (detached.row_errors, detached.timing) == (result.row_errors, result.timing)
    assert detached.held_bytes == result.held_bytes
    gc.disable()
    try:
        del result
        assert [own() for own in batches] == [None] * len(batches)
    finally:
        gc.enable()


def test_what_is_a_batch_of_its_own_is_not_copied():
    samples = np.arange(6, dtype=np.int32)
    result = SampleResult(samples=samples[0:6], row_errors=(), timing=Timing(0.0, 0.0, 1))
    assert np.shares_memory(result.detached().samples, samples)
