"""Quantities as people write them, read and written: ``10ms``, ``256MiB``, ``127.0.0.1:50051``."""

from __future__ import annotations

import math
import re

__all__ = ["format_bytes", "format_duration", "parse_address", "parse_bytes", "parse_duration"]

_Units = dict[str, tuple[int, int]]

# Each unit as (times, over), because 9 / 1000 is exactly the float 0.009, and 9 * 0.001 is not.
_SECONDS: _Units = {"us": (1, 10**6), "ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1)}
_BYTES: _Units = {
    "B": (1, 1),
    "KiB": (1 << 10, 1),
    "MiB": (1 << 20, 1),
    "GiB": (1 << 30, 1),
    "kB": (10**3, 1),
    "MB": (10**6, 1),
    "GB": (10**9, 1),
}
_QUANTITY = re.compile(r"^\s*([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*$")


def parse_duration(text: str | float) -> float:
    """Seconds from ``250us``, ``10ms``, ``1.5s``, ``2m``, ``1h``, or a plain number of seconds.

    Raises:
        ValueError: the text is no duration or quantity.

    """
    return _parse(text, _SECONDS, default="s", example="250us, 10ms, 1.5s, 2m, 1h")


def parse_bytes(text: str | float) -> int:
    """Bytes from ``512``, ``64KiB``, ``256MiB``, ``1GiB``, ``10MB``.

    Raises:
        ValueError: the text is no duration or quantity.

    """
    example = "65536, 64KiB, 256MiB, 1GiB"
    size = _parse(text, _BYTES, default="B", example=example)
    if not size.is_integer():
        raise ValueError(f"expected a quantity such as {example}")
    return int(size)


def _parse(quantity: object, units: _Units, *, default: str, example: str) -> float:
    value, unit = math.nan, default
    if isinstance(quantity, (int, float)) and not isinstance(quantity, bool):
        value = float(quantity)
    elif isinstance(quantity, str) and (match := _QUANTITY.match(quantity)) is not None:
        value, unit = float(match[1]), match[2] or default
    if unit in units and value >= 0.0:
        times, over = units[unit]
        value = value * times / over
        if math.isfinite(value):
            return value
    raise ValueError(f"expected a quantity such as {example}")


def format_duration(seconds: float) -> str:
    """``0.01`` as ``10ms``: the shortest exact form that `parse_duration` reads back."""
    for unit, per_second in (("s", 1), ("ms", 1000), ("us", 10**6)):
        amount = round(seconds * per_second)
        if amount / per_second == seconds:
            return f"{amount}{unit}"
    return f"{seconds!r}s"


def format_bytes(size: int) -> str:
    """``268435456`` as ``256MiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit][0] == 0:
            return f"{size // _BYTES[unit][0]}{unit}"
    return str(size)


def parse_address(text: str) -> str:
    """Check an address to listen on: ``host:port``, ``[v6]:port``, ``unix:/path`` or ``unix-abstract:name``.

    Raises:
        ValueError: the text is no address.

    """
    if text.startswith(("unix:", "unix-abstract:")):
        if text.partition(":")[2]:
            return text
    else:
        host, colon, port = text.rpartition(":")
        bare_v6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
        if colon and host and not bare_v6 and port.isascii() and port.isdigit() and int(port) < 65536:
            return text
    raise ValueError("expected host:port, [v6]:port, unix:/path or unix-abstract:name")
