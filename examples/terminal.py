"""A little colour and movement for the examples: both only where a person is looking."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Live", "bold", "clip", "columns", "dim", "heat", "is_live", "status", "table"]

_HEAT = {0.0: "38;5;75", 0.5: "38;5;114", 1.0: "38;5;221", 1.5: "38;5;209"}
"""Colours of temperatures, from cool to hot."""


def is_live() -> bool:
    """Whether standard output is a terminal that moves its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _paint(code: str, text: str) -> str:
    if not is_live() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def bold(text: str) -> str:
    """Make a text stand out."""
    return _paint("1", text)


def dim(text: str) -> str:
    """Make a text step back."""
    return _paint("2", text)


def heat(temperature: float, text: str) -> str:
    """Colour a text by the temperature it was written at."""
    nearest = min(_HEAT, key=lambda known: abs(known - temperature))
    return _paint(_HEAT[nearest], text)


def columns() -> int:
    """Columns of the terminal; 100 when there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def clip(text: str, width: int) -> str:
    """Cut a text to so many columns, with an ellipsis; characters that would move the cursor are left out."""
    shown: list[str] = []
    used = 0
    for char in text:
        if unicodedata.category(char) in {"Cc", "Cf"}:
            continue
        size = 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
        if used + size > width - 1:
            return "".join(shown) + "…"
        shown.append(char)
        used += size
    return "".join(shown)


def status(text: str) -> None:
    """Show what is being waited for, on a line that the next output overwrites; nothing without a terminal."""
    if is_live():
        sys.stdout.write(f"\x1b[2K{dim(text)}\r")
        sys.stdout.flush()


class Live:
    """A block of lines that is drawn over and over in its place; without a terminal, only its last state is printed."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines, over those of the last call. Each must fit the terminal."""
        if not is_live():
            return
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        sys.stdout.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)

    def finish(self, lines: Sequence[str]) -> None:
        """Show the lines for good."""
        if is_live():
            self.draw(lines)
        else:
            print("\n".join(lines))


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), notes: bool = False) -> str:
    """Lay cells out in columns, the first to the left, the others to the right; with `notes`, the last is an aside."""
    everything = [*([header] if header else []), *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(everything[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        if notes:
            cells[-1] = dim(row[-1])
        return "  " + "  ".join(cells).rstrip()

    lines = [line(row) for row in rows]
    return "\n".join([dim(line(header)), *lines] if header else lines)
