"""Values of flags: lists, names, biases and bits, as they are written on the command line.

Rule 1: nothing here needs numpy, so that ``samplerctl --help`` does not wait for it.
"""

from __future__ import annotations

import argparse
import re

__all__ = [
    "InputError",
    "cells",
    "hexadecimal",
    "integers",
    "kinds",
    "names",
    "parse_bias",
    "positive",
    "seconds",
    "seed",
    "sequences",
    "target",
    "targets",
]

_DEFAULT_PORT = 50051
"""The port that samplerd listens on unless told otherwise."""


class InputError(ValueError):
    """The rows cannot be read; the text says why, for the person at the keyboard."""


def cells(text: str) -> list[str]:
    """Return what stands between commas or blanks.

    Raises:
        ValueError: nothing stands between two commas, or beside one: what follows would count as something else.

    """
    parts = text.split(",")
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise ValueError("a value is missing beside a comma")
    return text.replace(",", " ").split()


def seed(text: str) -> int:
    """Return a whole number from 0 to 2^64 - 1.

    Raises:
        argparse.ArgumentTypeError: it is something else.

    """
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^64 - 1")
    return value


def integers(text: str) -> list[int]:
    """Return whole numbers between commas or blanks.

    Raises:
        argparse.ArgumentTypeError: something else stands there.

    """
    try:
        return [int(cell) for cell in cells(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, as in 3,17,25") from None


def names(text: str) -> list[str]:
    """Return names between commas or blanks.

    Raises:
        argparse.ArgumentTypeError: one is missing.

    """
    try:
        return cells(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, in {text!r}") from None


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
    try:
        pairs = [cell.partition(":") for cell in cells(text)]
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


def kinds(text: str) -> tuple[str, ...]:
    """Return kinds of log-probabilities between commas or blanks.

    Raises:
        argparse.ArgumentTypeError: there is no such kind.

    """
    given = tuple(names(text))
    for kind in given:
        if kind not in {"raw", "scaled", "processed"}:
            raise argparse.ArgumentTypeError(f"{kind!r} is not one of raw, scaled, processed")
    return given


def positive(text: str) -> int:
    """Return a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is something else.

    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def seconds(text: str) -> float:
    """Return a duration in seconds, with or without the unit.

    Raises:
        argparse.ArgumentTypeError: it is no duration.

    """
    number, unit = re.fullmatch(r"(.*?)\s*(ms|s|m|h)?", text).groups()  # type: ignore[union-attr]  # it matches any line
    try:
        value = float(number) * _UNITS_S[unit or "s"]
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, as in 10, 0.5 or 500ms")
    return value


_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def targets(text: str) -> str:
    """Return where to connect: one `target`, or several with commas between them.

    Raises:
        argparse.ArgumentTypeError: one of them is no target.

    """
    return ",".join(target(each) for each in text.split(","))


def target(text: str) -> str:
    """Return where to connect: host:port, with samplerd's port if only the host is named, or a name that gRPC resolves.

    Raises:
        argparse.ArgumentTypeError: it is empty or a URL, or the port is no port.

    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the address is empty: expected host or host:port")
    if text.startswith(("http://", "https://")):
        address = text.partition("://")[2].rstrip("/")
        tls = " --tls" if text.startswith("https") else ""
        raise argparse.ArgumentTypeError(f"{text!r} is a URL, which gRPC does not take: give {address}{tls}")
    if "/" in text or text.startswith(("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:")):
        return text
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]:{_DEFAULT_PORT}"  # an address of IPv6
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return f"{text}:{_DEFAULT_PORT}"
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise argparse.ArgumentTypeError(f"{port!r} is not a port, in {text!r}: expected host or host:port")
    return f"{host or 'localhost'}:{port}"
