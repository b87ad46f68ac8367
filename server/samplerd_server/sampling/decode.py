"""Bytes to float32 numbers, and what is wrong with a row: steps 0 and 1 of the pipeline.

Rule 1: numpy only; used by the reference and, for rows that failed, by the portable sampler. Rule 2: never raises for
what a row holds.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, RowErrorReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.entity import Buffer

__all__ = ["decode", "first_fault", "read_bytes"]


def read_bytes(address: int, size: int) -> NDArray[np.uint8]:
    """View `size` bytes of memory at `address`; whoever owns them must outlive the view (rows.py, rule 1)."""
    if size == 0:
        return np.empty(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def decode(data: Buffer | NDArray[np.uint8], dtype: Dtype) -> NDArray[np.float32]:
    """Turn little-endian numbers into float32[n]; binary64 is rounded to nearest, beyond the range to infinity."""
    match dtype:
        case Dtype.F32:
            return np.frombuffer(data, "<f4")
        case Dtype.F16:
            return np.frombuffer(data, "<f2").astype(np.float32)
        case Dtype.BF16:
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case Dtype.F64:
            with np.errstate(over="ignore", invalid="ignore"):
                return np.frombuffer(data, "<f8").astype(np.float32)


def first_fault(
    data: Buffer | NDArray[np.uint8],
    dtype: Dtype,
    kind: InputKind,
) -> tuple[RowErrorReason, int] | None:
    """Find the first number that no row may hold.

    NaN and +inf are faults anywhere; so is a finite binary64 number beyond the range of binary32 (reported as
    POSITIVE_INFINITY, whatever its sign), and in weights anything below zero (-0.0 is zero). The lowest id decides.

    Returns the reason and the id, or None for a row without fault.
    """
    values = decode(data, dtype)
    is_nan = np.isnan(values)
    is_infinite = values == np.inf
    if dtype == Dtype.F64:
        is_infinite |= np.isinf(values) & np.isfinite(np.frombuffer(data, "<f8"))
    is_negative = (values < 0) if kind == InputKind.PROBABILITIES else np.zeros(len(values), bool)
    faults = np.flatnonzero(is_nan | is_infinite | is_negative)
    if not len(faults):
        return None
    first = int(faults[0])
    if is_nan[first]:
        return RowErrorReason.NAN, first
    if is_infinite[first]:
        return RowErrorReason.POSITIVE_INFINITY, first
    return RowErrorReason.NEGATIVE_WEIGHT, first
