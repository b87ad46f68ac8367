"""Values of flags: lists, names, biases and bits, as they are written on the command line.

Rule 1: nothing here needs numpy, so that ``samplerctl --help`` does not wait for it.
"""

from __future__ import annotations

import argparse

__all__ = ["InputError", "hexadecimal", "integers", "names", "parse_bias", "sequences"]


class InputError(ValueError):
    """The rows cannot be read; the text says why, for the person at the keyboard."""


def integers(text: str) -> list[int]:
    """Return whole numbers between commas or blanks.

    Raises:
        argparse.ArgumentTypeError: something else stands there.

    """
    try:
        return [int(cell) for cell in text.replace(",", " ").split()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, as in 3,17,25") from None


def names(text: str) -> list[str]:
    """Return names between commas or blanks."""
    return text.replace(",", " ").split()


def sequences(text: str) -> list[list[int]]:
    """Return sequences of whole numbers, written ``1,2;3``.

    Raises:
        argparse.ArgumentTypeError: something else stands there.

    """
    return [integers(part) for part in text.split(";")]


def parse_bias(text: str) -> dict[int, float]:
    """Return biases written ``id:bias,id:bias``.

    Raises:
        argparse.ArgumentTypeError: something else stands there.

    """
    pairs = (cell.partition(":") for cell in text.replace(",", " ").split())
    try:
        return {int(token): float(bias) for token, _, bias in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of biases, as in 3:-1.5,17:-inf") from None


def hexadecimal(text: str) -> bytes:
    """Return the bytes that pairs of hexadecimal digits stand for.

    Raises:
        argparse.ArgumentTypeError: something else stands there.

    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not pairs of hexadecimal digits, as in ff000000") from None
