"""Tensors in JSON: numbers, nested or flat, to and from the bytes that raw contents hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.transport.oip.echo import shown

__all__ = ["from_json", "to_json"]

_STORED = {
    "BOOL": "?",
    **{f"{kind}INT{8 * size}": f"<{code}{size}" for kind, code in (("", "i"), ("U", "u")) for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
"""For each datatype that JSON can hold, the numpy dtype of its raw contents."""


def from_json(datatype: str, data: Any, path: str) -> bytes:
    """Convert numbers of JSON to raw contents: row-major, little-endian.

    Raises:
        InvalidRequestError: they are not numbers of this datatype, or their nesting is uneven.

    """
    dtype = _STORED.get(datatype)
    if dtype is None:
        raise InvalidRequestError(
            path, f"{shown(datatype)} in JSON is none of {', '.join(_STORED)}; send it as binary data"
        )
    if not isinstance(data, list):
        raise InvalidRequestError(path, "must be a JSON array of numbers")
    try:
        values = np.asarray(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(path, "must be an array of numbers, nested evenly or flat") from error
    kind = np.dtype(dtype).kind
    if values.dtype.kind not in ("b" if kind == "b" else "iuf") and values.size:
        raise InvalidRequestError(path, "must hold numbers alone; what is not finite is written NaN or Infinity")
    if kind in "iu" and values.size:
        numbers = values.ravel().tolist() if values.dtype.kind != "f" else _whole(data)
        bounds = np.iinfo(dtype)
        if not numbers or not bounds.min <= min(numbers) <= max(numbers) <= bounds.max:
            raise InvalidRequestError(path, f"a number is no {datatype}")
        return np.array(numbers, dtype).tobytes()
    with np.errstate(over="ignore"):  # what is too large for the datatype is infinite
        return values.astype(dtype).tobytes()


def _whole(data: list[Any]) -> list[int]:
    """Give whole numbers of which numpy has made float64, which they may not fit; nothing if one is not whole."""
    values = np.asarray(data, object).ravel().tolist()
    is_whole = all(isinstance(value, int) or (isinstance(value, float) and value.is_integer()) for value in values)
    return [int(value) for value in values] if is_whole else []


def to_json(datatype: str, data: bytes) -> list[Any]:
    """Convert raw contents to numbers of JSON, flat; what is not finite becomes null, since JSON has no word for it."""
    values = np.frombuffer(data, _STORED[datatype])
    numbers: list[Any] = values.tolist()
    if values.dtype.kind == "f":
        for at in np.flatnonzero(~np.isfinite(values)).tolist():
            numbers[at] = None
    return numbers
