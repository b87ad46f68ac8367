"""The address of a buffer's first byte, which the record of a row holds instead of the numbers.

numpy needs about 2 us to give the address of any buffer. Most rows arrive as `bytes`, whose address follows from
CPython's layout in a tenth of that time. The layout is determined here once; if it is unknown, numpy is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.entity import Buffer

__all__ = ["address_of"]


def _ask_numpy(buffer: Buffer | NDArray[np.generic]) -> int:
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    address: int = array.__array_interface__["data"][0]
    return address


_PROBE = b"where do the bytes of a bytes lie?"
_HEADER = _ask_numpy(_PROBE) - id(_PROBE)
"""Offset of the content from the address of the object: the same for every `bytes` of one interpreter."""
_IS_KNOWN = bytes.__basicsize__ - 1 == _HEADER


def address_of(buffer: Buffer | NDArray[np.generic]) -> int:
    """Give the address of the first byte of a contiguous, non-empty buffer. The caller keeps the buffer alive."""
    if _IS_KNOWN and type(buffer) is bytes:
        return id(buffer) + _HEADER
    return _ask_numpy(buffer)
