"""Rows from the command line: written out, from a file (.npy, .npz or text such as CSV), or from standard input."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

import numpy as np

from samplerd_client.samplerctl.flag_values import InputError, cells

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
_ZIP_MAGIC = b"PK"
"""A .npz file is a zip archive of .npy files."""


def parse_rows(text: str) -> NDArray[np.float32]:
    """Return float32[B, V] of numbers between commas or blanks, rows between semicolons or line ends.

    Raises:
        InputError: something is no number, or the rows differ in length.

    """
    rows: list[list[float]] = []
    for number, line in enumerate(re.split(r"[;\n]", text), 1):
        if not line.strip():
            continue
        try:
            own = cells(line)
        except ValueError:
            raise InputError(f"a number is missing beside a comma, in row {number}") from None
        try:
            rows.append([float(cell) for cell in own])
        except ValueError as error:
            wrong = error.args[0].rpartition(": ")[2]
            where = "" if number == 1 and len(own) == 1 else f", in row {number}"
            raise InputError(f"{wrong} is not a number{where}{_file_hint(text)}") from None
    if not rows:
        raise InputError("there are no numbers")
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"the rows have different lengths: {', '.join(str(len(row)) for row in rows[:10])}")
    return np.array(rows, dtype=np.float32)


def _file_hint(text: str) -> str:
    """Say how a file is read, where its name was given in place of numbers."""
    is_name = len(text) < 256 and text.isprintable() and Path(text).is_file()
    return f"; the file of this name is read with --npy {text}" if is_name else ""


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
    """Return the rows of a file, or of standard input for "-".

    Raises:
        InputError: they cannot be read.

    """
    if path == "-":
        return _decode(sys.stdin.buffer.read(), "standard input")
    try:
        return _decode(Path(path).read_bytes(), path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_standard_input() -> NDArray[Any]:
    """Return the rows on standard input.

    Raises:
        InputError: they cannot be read.

    """
    return read_npy("-")


def _decode(data: bytes, name: str) -> NDArray[Any]:
    """Return the rows in the bytes of a file, whose kind its first bytes tell."""
    try:
        if data.startswith(_NPY_MAGIC):
            return cast("NDArray[Any]", np.load(io.BytesIO(data), allow_pickle=False))
        if data.startswith(_ZIP_MAGIC):
            return _only_array(data, name)
    except InputError:
        raise
    except (ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{name} holds no array of numbers that can be read: {error}") from None
    try:
        return parse_rows(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{name} is neither .npy, nor .npz, nor text with numbers, such as CSV") from None
    except InputError as error:
        raise InputError(f"{name} was read as text: {error}; expected numbers alone, without a header") from None


def _only_array(data: bytes, name: str) -> NDArray[Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        if len(archive.files) == 1:
            return cast("NDArray[Any]", archive[archive.files[0]])
        held = ", ".join(archive.files) or "none"
    raise InputError(f"{name} must hold one array, and holds {held}: save the rows alone, with numpy.save")
