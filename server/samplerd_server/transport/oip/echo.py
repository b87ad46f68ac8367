"""What a client sent, as error messages show it: quoted, and cut where it is long.

A name or a value of a request may have the size of a message; a status travels in headers, which take a few KiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["shown", "shown_shape"]

_MAX_CHARACTERS = 64
_MAX_LENGTHS = 8


def shown(value: object) -> str:
    """Quote a name or a value, and cut it after 64 characters."""
    if isinstance(value, str | bytes) and len(value) > _MAX_CHARACTERS:
        return f"{value[:_MAX_CHARACTERS]!r}..."
    text = repr(value)
    return text if len(text) <= 4 * _MAX_CHARACTERS + 3 else f"{text[:_MAX_CHARACTERS]}..."


def shown_shape(shape: Sequence[int]) -> str:
    """Write a shape as a list, and cut it after 8 lengths."""
    if len(shape) <= _MAX_LENGTHS:
        return str(list(shape))
    return f"[{', '.join(map(str, shape[:_MAX_LENGTHS]))}, ...]"
