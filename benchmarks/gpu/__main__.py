"""What a draw takes on a GPU, beside what others take for it, what the copy takes, and the limit of the memory.

``python -m benchmarks.gpu`` prints one table, and what a server on the card draws per second beside one on the CPU
(`served.py`). Kernels are launched again and again as a batch would launch them, without what the host does before,
which is timed by itself; rows lie on the card. torch and FlashInfer draw from such logits too, if installed with CUDA;
their draws have no seed for each row. No figure is published before a GPU has passed `make test-gpu`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.card import TimedCard
from benchmarks.gpu.others import flashinfer_times, torch_times
from benchmarks.gpu.served import CASES, measure_served

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SHAPES", "Shape", "main"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch: B rows of V numbers."""

    rows: int
    width: int
    dtype: str
    """``f32`` or ``bf16``."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.width * {"f32": 4, "bf16": 2}[self.dtype]


SHAPES = (
    Shape(1, 1_024, "f32"),
    Shape(1, 131_072, "f32"),
    Shape(64, 32_768, "f32"),
    Shape(64, 32_768, "bf16"),
    Shape(64, 131_072, "f32"),
    Shape(256, 151_936, "bf16"),
)
PARAMETERS: dict[str, dict[str, Any]] = {
    "plain": {"temperature": 0.8},
    "top_k 50, top_p 0.9": {"temperature": 0.8, "top_k": 50, "top_p": 0.9},
    "top_p 0.9": {"temperature": 0.8, "top_p": 0.9},
}


def measure(shape: Shape, card: TimedCard) -> dict[str, float]:
    """Measure one batch; microseconds, by name."""
    times = {name: card.kernels_us(shape.rows, shape.width, shape.dtype, own) for name, own in PARAMETERS.items()}
    times |= {
        f"host, {name}": card.host_us(shape.rows, shape.width, shape.dtype, own) for name, own in PARAMETERS.items()
    }
    times["begin to end"] = card.batch_us(shape.rows, shape.width, shape.dtype)
    times["copy to the card"] = card.copy_us(shape.size_bytes)
    times["one read within the card"] = card.read_us(shape.size_bytes)
    for others in (torch_times, flashinfer_times):
        times |= others(shape.rows, shape.width, shape.dtype)
    return times


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all shapes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description="Times of a GPU.")
    parser.add_argument("--device", type=int, default=0, help="number of the card (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each shape and each call")
    parser.add_argument("--only", choices=["card", "served"], help="measure batches alone, or calls alone")
    options = parser.parse_args(arguments)
    if options.only != "served":
        _print_batches(options.device, is_json=options.json)
    if options.only != "card":
        _print_served(is_json=options.json)
    return 0


def _print_batches(device: int, *, is_json: bool) -> None:
    card = TimedCard(device)
    try:
        for shape in SHAPES:
            times = measure(shape, card)
            if is_json:
                print(json.dumps(asdict(shape) | {"us": times}))
            else:
                print(f"{shape.rows} x {shape.width} {shape.dtype}, {shape.size_bytes / 1e6:.1f} MB")
                for name, value in times.items():
                    print(f"  {value:10.1f} us  {name}")
    finally:
        card.close()


def _print_served(*, is_json: bool) -> None:
    for name, devices in measure_served(CASES).items():
        if is_json:
            print(json.dumps({"call": name, "served": devices}))
            continue
        print(f"calls of {name}")
        for device, own in devices.items():
            print(
                f"  {own['rows_per_s']:10.0f} rows/s, p99 {own['p99_ms']:.1f} ms, {own['cpu_us']:.1f} us/row  {device}"
            )


if __name__ == "__main__":
    sys.exit(main())
