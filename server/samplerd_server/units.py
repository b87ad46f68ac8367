"""Reading and writing quantities as people do: ``10ms``, ``256MiB``, ``127.0.0.1:50051``."""

from __future__ import annotations

import math
import re

__all__ = ["format_bytes", "format_duration", "parse_address", "parse_bytes", "parse_duration"]

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_QUANTITY = re.compile(r"^\s*([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*$")


def parse_duration(text: str | float) -> float:
    """Seconds from ``250us``, ``10ms``, ``1.5s``, ``2m``, ``1h``, or a plain number of seconds.

    Raises:
        ValueError: not such a quantity.

    """
    return _parse(text, _SECONDS, default="s", example="250us, 10ms, 1.5s, 2m, 1h")


def parse_bytes(text: str | float) -> int:
    """Bytes from ``512``, ``64KiB``, ``256MiB``, ``1GiB``, ``10MB``.

    Raises:
        ValueError: not such a quantity.

    """
    return int(_parse(text, _BYTES, default="B", example="65536, 64KiB, 256MiB, 1GiB"))


def _parse(text: str | float, units: dict[str, float] | dict[str, int], *, default: str, example: str) -> float:
    if isinstance(text, bool):
        raise ValueError(f"expected a quantity such as {example}")
    if isinstance(text, (int, float)):
        value, unit = float(text), default
    else:
        match = _QUANTITY.match(text)
        if match is None:
            raise ValueError(f"expected a quantity such as {example}")
        value, unit = float(match[1]), match[2] or default
    if unit not in units or not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a quantity such as {example}")
    return value * units[unit]


def format_duration(seconds: float) -> str:
    """``0.01`` as ``10ms``: the shortest exact form that `parse_duration` reads back."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds == 0 or round(seconds / scale, 6) == round(seconds / scale) != 0:
            return f"{round(seconds / scale)}{unit}"
    return f"{seconds!r}s"


def format_bytes(size: int) -> str:
    """``268435456`` as ``256MiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)


def parse_address(text: str) -> str:
    """Check an address to listen on: ``host:port``, ``[v6]:port``, ``unix:/path`` or ``unix-abstract:name``.

    Raises:
        ValueError: not such an address.

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
