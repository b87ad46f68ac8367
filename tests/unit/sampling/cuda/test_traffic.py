"""What the kernels for a GPU read and write: plain rows once, and little else."""

from __future__ import annotations

import pytest

from tests.support.gpu_traffic import batch_of, measure


@pytest.mark.parametrize(
    ("case", "launches", "most"),
    [("plain", 2, 0.1), ("16 without replacement", 2, 1.5)],
)
def test_rows_are_read_once(case: str, launches: int, most: float) -> None:
    """A read of all rows, and at most so many more bytes, in such reads."""
    found = measure(batch_of(case, rows=2, width=32_768))
    assert found.launches == launches
    assert found.read_bytes >= found.row_bytes
    assert found.beyond_one_read <= most
