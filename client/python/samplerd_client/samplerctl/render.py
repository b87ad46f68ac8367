"""Text for people: tables, bars, numbers and durations. Pure: values in, strings out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bar", "count", "milliseconds", "p_value", "probability", "size", "table"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Return rows as aligned columns under their headers.

    Args:
        headers: one for each column.
        rows: cells.
        align: "<" or ">" for each column.

    """
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    lines = [headers, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    )


def bar(observed: float, expected: float | None, scale: float, width: int, *, unicode: bool) -> str:
    """Return a bar as long as `observed`, with a mark where `expected` ends.

    Args:
        observed: its length, 0 to `scale`.
        expected: where the mark goes; None = no mark.
        scale: the value of a full bar.
        width: of a full bar, in characters.
        unicode: whether eighths of a character can be drawn.

    """
    eighths = round(8 * width * min(1.0, observed / scale)) if scale > 0 else 0
    full, part = divmod(eighths, 8)
    cells = list(("█" if unicode else "#") * full)
    if part:
        cells.append(_EIGHTHS[part] if unicode else ("-" if part >= 4 else " "))
    cells += [" "] * (width - len(cells))
    if expected is not None and scale > 0 and expected > 0:
        at = min(width - 1, round(width * min(1.0, expected / scale)))
        cells[at] = ("┃" if at < full else "│") if unicode else "|"
    return "".join(cells).rstrip()


def count(value: float) -> str:
    """Return a whole number with separators: 1,234,567."""
    return f"{value:,.0f}"


def probability(value: float) -> str:
    """Return a probability with four significant digits."""
    if value == 0.0 or value >= 1e-3:
        return f"{value:.4f}"
    return f"{value:.1e}"


def p_value(value: float) -> str:
    """Return a p-value; tiny ones by their power of ten."""
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}"


def milliseconds(seconds: float) -> str:
    """Return a duration in milliseconds, or a dash for none."""
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.2f} ms"


def size(value: float) -> str:
    """Return bytes in binary units: 64.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
