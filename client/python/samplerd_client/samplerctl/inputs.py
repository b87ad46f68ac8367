"""Rows from the command line: written out, from a .npy file, or from standard input."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_client.samplerctl.flag_values import InputError

if TYPE_CHECKING:
    import argparse

    from numpy.typing import NDArray

__all__ = [
    "InputError",
    "parse_rows",
    "read_npy",
    "read_rows",
    "read_standard_input",
]

_NPY_MAGIC = b"\x93NUMPY"


def parse_rows(text: str) -> NDArray[np.float32]:
    """Return float32[B, V] of numbers between commas or blanks, rows between semicolons or line ends.

    Raises:
        InputError: something is no number, or the rows differ in length.

    """
    rows: list[list[float]] = []
    for line in re.split(r"[;\n]", text):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError as error:
            raise InputError(f"{error.args[0].rpartition(': ')[2]} is not a number") from None
    if not rows:
        raise InputError("there are no numbers")
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"the rows have different lengths: {', '.join(str(len(row)) for row in rows[:10])}")
    return np.array(rows, dtype=np.float32)


def read_rows(args: argparse.Namespace) -> NDArray[Any]:
    """Return the rows that --npy, --logits or --probabilities names.

    Raises:
        InputError: they cannot be read.

    """
    if args.npy is not None:
        return read_npy(args.npy)
    text = args.logits if args.logits is not None else args.probabilities
    return read_standard_input() if text == "-" else parse_rows(text)


def read_guidance(args: argparse.Namespace) -> NDArray[Any] | None:
    """Return the rows that --guidance or --guidance-npy names; None if neither is given.

    Raises:
        InputError: they cannot be read.

    """
    if args.guidance_npy is not None:
        return read_npy(args.guidance_npy)
    return None if args.guidance is None else parse_rows(args.guidance)


def read_npy(path: str) -> NDArray[Any]:
    """Return the array of a .npy file, or of standard input for "-"."""
    if path == "-":
        return _npy(sys.stdin.buffer.read(), "standard input")
    try:
        return _npy(Path(path).read_bytes(), path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_standard_input() -> NDArray[Any]:
    """Return the rows on standard input: text, or the bytes of a .npy file."""
    data = sys.stdin.buffer.read()
    if data.startswith(_NPY_MAGIC):
        return _npy(data, "standard input")
    try:
        return parse_rows(data.decode())
    except UnicodeDecodeError:
        raise InputError("standard input is neither text nor a .npy file") from None


def _npy(data: bytes, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{name} is not a .npy file of numbers: {error}") from None
    return array
