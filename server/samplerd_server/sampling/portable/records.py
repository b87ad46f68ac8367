"""The records of a group on the device: every parameter of every row in one copy, a column at a time when asked for.

What the host computes of each row, such as its uniforms, is copied with them. `upload` is the one way to the device for
everything but the rows themselves (`staging.py`); it never waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from samplerd_server.sampling.rows import ROW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["DeviceRecords", "Fields", "upload"]

_NAMES = frozenset(ROW.names or ())
_TORCH = {np.dtype("f8"): torch.float64, np.dtype("i4"): torch.int32, np.dtype("u1"): torch.uint8}


class DeviceRecords:
    """ROW[B] as bytes on the device, and columns that the host computed."""

    def __init__(
        self, records: NDArray[np.void], device: torch.device, columns: Mapping[str, NDArray[np.float64]] | None = None
    ) -> None:
        """Copy the records, and with them columns, float64[B, k] by name."""
        parts = [np.ascontiguousarray(records).view(np.uint8).reshape(len(records), -1)]
        self._own: dict[str, slice] = {}
        end = ROW.itemsize
        for name, values in (columns or {}).items():
            parts.append(np.ascontiguousarray(values, np.float64).view(np.uint8))
            self._own[name] = slice(end, end + parts[-1].shape[1])
            end = self._own[name].stop
        self._bytes = upload(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1), device)
        self._columns: dict[str, Tensor] = {}

    def column(self, name: str) -> Tensor:
        """One field of all rows, [B, 1]: float64, or int64 of a whole number; or a column of the host, float64[B, k].

        Made once, so nobody may write to it.
        """
        column = self._columns.get(name)
        if column is None:
            self._columns[name] = column = self._read(name)
        return column

    def _read(self, name: str) -> Tensor:
        own = self._own.get(name)
        if own is not None:
            return self._bytes[:, own].clone(memory_format=torch.contiguous_format).view(torch.float64)
        kind, offset = ROW.fields[name][:2]  # type: ignore[index]  # ROW is a struct
        values = self._bytes[:, offset : offset + kind.itemsize].clone(memory_format=torch.contiguous_format)
        column = values.view(_TORCH[kind])
        return column if column.dtype == torch.float64 else column.long()

    def __getattr__(self, name: str) -> Tensor:
        """Give a field as an attribute, as the predicates of `sampling.parameters` take it."""
        if name not in _NAMES:
            raise AttributeError(name)
        return self.column(name)


class Fields:
    """The fields of records, ROW[B], or of one record, as attributes, as predicates of `sampling.parameters` take them.

    numpy's recarray has them as attributes too, but takes ten times as long for each; every batch reads a dozen.
    """

    __slots__ = ("_records",)

    def __init__(self, records: NDArray[np.void] | np.void) -> None:
        self._records = records

    def __getattr__(self, name: str) -> Any:
        """Give a field."""
        if name not in _NAMES:
            raise AttributeError(name)
        return self._records[name]


def upload(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """Bring an array to the device, without waiting for it: a copy out of pinned memory, which torch keeps."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
