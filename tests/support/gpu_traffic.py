"""`python -m tests.support.gpu_traffic`: counts the bytes that the kernels for a GPU read and write for a batch.

They run in Triton's interpreter, where each load and store of a program is seen. What several programs read is counted
for each of them, though a card's cache may hold it. Counts are stored beside other results.
"""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
from triton.runtime import interpreter

from benchmarks.report import machine, write_json
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch, make_exact
from samplerd_server.sampling.rows import new_results
from tests.support.samplers import params, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samplerd_server.core.request import SampleRequest

__all__ = ["CASES", "Traffic", "batch_of", "measure"]

ROOT = Path(__file__).parents[2]
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "plain, 16 draws": ({}, {"num_samples": 16}),
    "top_k 50": ({"top_k": 50}, {}),
    "top_p 0.9": ({"top_p": 0.9}, {}),
    "min_p 0.05": ({"min_p": 0.05}, {}),
    "typical_p 0.9": ({"typical_p": 0.9}, {}),
    "top_k 50, top_p 0.9, min_p 0.05": ({"top_k": 50, "top_p": 0.9, "min_p": 0.05}, {}),
    "16 without replacement": ({}, {"num_samples": 16, "with_replacement": False}),
}
"""Parameters, and what else is asked of each row, by what they are."""


@dataclass(slots=True)
class Traffic:
    """What the kernels of a batch did."""

    launches: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    row_bytes: int = 0
    """What the rows of the batch take."""

    @property
    def beyond_one_read(self) -> float:
        """Bytes that were read and written beyond one read of all rows, in such reads."""
        return (self.read_bytes + self.written_bytes - self.row_bytes) / self.row_bytes


@contextmanager
def _counted(found: Traffic) -> Iterator[None]:
    """Count what programs load and store."""
    make_exact()
    builder = interpreter.InterpreterBuilder
    load, store, update = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw

    def counted_load(own: Any, pointers: Any, mask: Any, *others: Any) -> Any:
        value = load(own, pointers, mask, *others)
        found.read_bytes += int(np.count_nonzero(mask.data)) * value.data.itemsize
        return value

    def counted_store(own: Any, pointers: Any, value: Any, mask: Any, *others: Any) -> Any:
        found.written_bytes += int(np.count_nonzero(mask.data)) * value.data.itemsize
        return store(own, pointers, value, mask, *others)

    def counted_update(own: Any, kind: Any, pointers: Any, value: Any, mask: Any, *others: Any) -> Any:
        size = int(np.count_nonzero(mask.data)) * value.data.itemsize
        found.read_bytes += size
        found.written_bytes += size
        return update(own, kind, pointers, value, mask, *others)

    builder.create_masked_load, builder.create_masked_store = counted_load, counted_store
    builder.create_atomic_rmw = counted_update
    try:
        yield
    finally:
        builder.create_masked_load, builder.create_masked_store = load, store
        builder.create_atomic_rmw = update


def measure(asked: list[SampleRequest]) -> Traffic:
    """Draw a batch of float32 rows, and count."""
    found = Traffic()

    def counted_launch(kernel: Any, programs: int, *arguments: Any) -> None:
        found.launches += bool(programs)
        launch(kernel, programs, *arguments)

    batch = pack(asked)
    found.row_bytes = int(batch.rows["width"].sum()) * 4
    with _counted(found):
        draw(batch.rows, new_results(batch), counted_launch)
    return found


def batch_of(case: str, rows: int, width: int) -> list[SampleRequest]:
    """Make a batch of rows of normal logits with a deviation of 3, by the name of its case."""
    parameters, others = CASES[case]
    numbers = np.random.default_rng(1).normal(scale=3.0, size=(rows, width))
    return [
        request(own, Dtype.F32, seed=number, params=params(**parameters), **others)
        for number, own in enumerate(numbers)
    ]


def main() -> None:
    """Count for all cases, and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8, help="rows of a batch (8)")
    parser.add_argument("--width", type=int, default=32_768, help="numbers of a row (32,768)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="the folder of the result")
    own = parser.parse_args()
    cases = {}
    for case in CASES:
        found = measure(batch_of(case, own.rows, own.width))
        cases[case] = {
            "launches": found.launches,
            "read_bytes": found.read_bytes,
            "written_bytes": found.written_bytes,
            "row_bytes": found.row_bytes,
            "beyond_one_read": round(found.beyond_one_read, 4),
        }
        print(case, cases[case], flush=True)  # a program
    command = f"python -m tests.support.gpu_traffic --rows {own.rows} --width {own.width}"
    result = {"machine": {**machine(), "command": command}, "rows": own.rows, "width": own.width, "cases": cases}
    write_json(own.output, "gpu_traffic", result)


if __name__ == "__main__":
    main()
