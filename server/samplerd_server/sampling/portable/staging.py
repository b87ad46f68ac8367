"""Copies the rows that records point to into one tensor on the device: the only copy of a row.

Rule 1: rows that already lie side by side in memory are not copied on the CPU but viewed. Rule 2: on CUDA the rows of a
group are gathered in pinned memory and cross in one copy. Rule 3: numbers beyond a row's width are undefined;
`decode_rows` replaces them before anything looks at them.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from samplerd_server.core.enums import Dtype

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["decode_rows", "stage"]

_TORCH = {
    Dtype.F32: torch.float32,
    Dtype.F16: torch.float16,
    Dtype.BF16: torch.bfloat16,
    Dtype.F64: torch.float64,
}


def stage(records: NDArray[np.void], dtype: Dtype, device: torch.device, field: str = "data") -> Tensor:
    """Gather the numbers of rows.

    Args: records, ROW[B]; field, that with the address of each row's numbers, all of one dtype. Returns a tensor
    [B, W] of that dtype, W the largest width of them; what lies beyond a row's own width is undefined.
    """
    widths: list[int] = records["width"].tolist()
    addresses: list[int] = records[field].tolist()
    rows, width, kind = len(widths), max(widths), _TORCH[dtype]
    pitch = width * dtype.itemsize
    is_cuda = device.type == "cuda"
    side_by_side = all(
        address == addresses[0] + row * pitch and own == width
        for row, (address, own) in enumerate(zip(addresses, widths, strict=True))
    )
    if side_by_side and not is_cuda and addresses[0] % dtype.itemsize == 0:
        memory = (ctypes.c_char * (rows * pitch)).from_address(addresses[0])
        return torch.frombuffer(memory, dtype=kind).view(rows, width)
    staged = torch.empty((rows, width), dtype=kind, pin_memory=is_cuda)
    base = staged.data_ptr()
    if side_by_side:
        ctypes.memmove(base, addresses[0], rows * pitch)
    else:
        for row, (address, own) in enumerate(zip(addresses, widths, strict=True)):
            ctypes.memmove(base + row * pitch, address, own * dtype.itemsize)
    return staged.to(device, non_blocking=True) if is_cuda else staged


def decode_rows(raw: Tensor, widths: Tensor | None, fill: float) -> Tensor:
    """Turn staged numbers into float64[B, W] of float32 values, `fill` beyond each row's width.

    Args: raw, [B, W] of any of the four dtypes; widths, int64[B, 1], or None when all are W.
    """
    values = raw.to(torch.float32) if raw.dtype == torch.float64 else raw
    rows = values.to(torch.float64)
    if widths is not None:
        beyond = torch.arange(rows.shape[1], device=rows.device) >= widths
        rows.masked_fill_(beyond, fill)
    return rows
