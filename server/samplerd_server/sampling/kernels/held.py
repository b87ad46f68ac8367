"""What a long draw holds from slice to slice: one record, which kernels write and read.

The draw is in long_draw.py; answer.py takes the row through the pipeline before it, and writes the outputs after it.
"""

from __future__ import annotations

import numpy as np

__all__ = ["DESCRIBE", "HELD", "PREPARE", "WHOLE"]

WHOLE, PREPARE, DESCRIBE = 0, 1, 2
"""What `answer.draw_full` does with a row: all of it, or what comes before its draws, or what comes after them."""

HELD = np.dtype(
    [
        ("numbers", "u8"),  # address of float32[V], the draw's own: for numbers that lie in the thread's memory
        ("address", "u8"),  # the view that is drawn from, as memory.View has it
        ("width", "i8"),
        ("dtype", "i8"),
        ("is_weights", "i8"),
        ("temperature", "f8"),
        ("rest", "f8"),  # see plain.draw_view
        ("total", "i8"),  # the sum of the tree
        ("drawn", "i8"),  # draws that were made
        ("exponent", "f8"),  # what plain.draw_view returns
        ("sum", "f8"),
    ],
    align=True,
)
"""The record."""
