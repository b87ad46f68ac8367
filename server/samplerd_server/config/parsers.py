"""Parsers of settings: each takes text, or a value of the file, and gives the value that the setting holds.

Each raises a ValueError that says what is allowed.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from samplerd_server.core.units import format_bytes, format_duration, parse_address, parse_bytes, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "bounded_bytes",
    "bounded_duration",
    "choice",
    "device",
    "integer",
    "optional_address",
    "optional_path",
    "or_off",
    "origin",
    "region_prefix",
    "share",
    "switch",
]


def integer(low: int, high: int) -> Callable[[Any], int]:
    """Read an integer from `low` to `high`."""

    def parse(value: object) -> int:
        try:
            number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"expected an integer from {low} to {high}")
        return number

    return parse


def share(value: object) -> float:
    """Read a share from 0 to 1."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError("expected a share from 0 to 1")
    return number


def choice(*allowed: str) -> Callable[[Any], str]:
    """Read one of these words."""

    def parse(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return str(value)

    return parse


def switch(value: object) -> bool:
    """Read true or false, in the usual spellings."""
    truths = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in truths:
        raise ValueError("expected true or false")
    return truths[str(value).lower()]


def region_prefix(value: object) -> str:
    """Read a prefix of shared-memory names, with or without the leading slash; empty = off."""
    text = value.removeprefix("/") if isinstance(value, str) else "."
    if text and (".." in text or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", text)):
        raise ValueError("expected at most 64 of A-Z a-z 0-9 . _ - with no '.' first and no '..'")
    return text


def device(value: object) -> str:
    """Read the name of a device; ``interpret``, which is for tests, is not named to users."""
    text = str(value)
    if text in {"auto", "cpu", "cuda", "interpret"} or (
        text.startswith("cuda:") and text.isascii() and text[5:].isdigit()
    ):
        return text
    raise ValueError("expected auto, cpu, cuda or cuda:N")


def optional_address(value: object) -> str:
    """Read host:port; empty for off."""
    if value in ("", "off"):  # a file may hold a list, which a set could not look up
        return ""
    address = parse_address(str(value))
    if address.startswith("unix"):
        raise ValueError("expected host:port, or off")
    return address


_ORIGIN = re.compile(r"\*|https?://[^/\s,]+")


def origin(value: object) -> str:
    """Read an origin as browsers send it, or *."""
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise ValueError("expected an origin as browsers send it, such as https://app.example, or *")
    return value


def optional_path(value: object) -> str:
    """Read a path; empty for off."""
    if not isinstance(value, str):
        raise ValueError("expected a path, or off")
    return "" if value == "off" else value


def or_off(value: str) -> str:
    """Show an empty value as off."""
    return value or "off"


def bounded_bytes(low: int, high: int) -> Callable[[Any], int]:
    """Read a quantity of bytes from `low` to `high`."""

    def parse(value: str | float) -> int:
        size = parse_bytes(value)
        if not low <= size <= high:
            raise ValueError(f"expected from {format_bytes(low)} to {format_bytes(high)}")
        return size

    return parse


def bounded_duration(high_s: float) -> Callable[[Any], float]:
    """Read a duration of at most `high_s` seconds."""

    def parse(value: str | float) -> float:
        seconds = parse_duration(value)
        if seconds > high_s:
            raise ValueError(f"expected at most {format_duration(high_s)}")
        return seconds

    return parse
